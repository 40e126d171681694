"""Foreign values and exceptions as short, printable text."""

import math
from collections.abc import Iterator
from typing import Final

LONGEST_LINE: Final = 300
"""Characters that are shown of what foreign code says."""

_CONTAINERS: Final = ((list, "a list"), (tuple, "a list"), (dict, "a mapping"))


def printable(raw: object) -> bool | int | float | str | None:
    """A rendition of any raw value that is short, ASCII-safe text or a plain JSON scalar."""
    if raw is None or type(raw) is bool:
        return raw
    if type(raw) is int:
        return raw if abs(raw) < 2**63 else f"a whole number of {raw.bit_length()} bits"
    if type(raw) is float:
        return raw if math.isfinite(raw) else str(raw)
    if type(raw) is str:
        return shorten(raw)
    for container, words in _CONTAINERS:
        if type(raw) is container:
            return words
    return f"an object of type {shorten(type(raw).__name__)}"


def shorten(text: str, longest: int = 80) -> str:
    """The text on one line, with what cannot be printed escaped, cut to `longest` characters."""
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def describe(error: BaseException) -> str:
    """An exception in one short line, where no secret is known."""
    return shorten(text_of(error), LONGEST_LINE)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """It, and what it comes from, each once: they may be a circle."""
    seen: list[BaseException] = []
    while error is not None and not any(error is each for each in seen):
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def text_of(error: BaseException) -> str:
    """An exception in full, secrets included; its text is foreign, and may raise."""
    try:
        text = str(error)
    except BaseException:
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
