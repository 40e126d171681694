"""Exceptions as text."""

from .values import LONGEST_LINE, shorten


def describe(error: BaseException) -> str:
    """An exception in one short line, where no secret is known."""
    return shorten(text_of(error), LONGEST_LINE)


def text_of(error: BaseException) -> str:
    """An exception in full, secrets included; its text is a stranger's, and may raise."""
    try:
        text = str(error)
    except BaseException:
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
