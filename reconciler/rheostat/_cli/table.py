"""Rows of text as columns."""

from collections.abc import Iterator, Sequence
from unicodedata import combining, east_asian_width

from rheostat._contract.text import LONGEST_LINE, shorten

_GAP = "  "
_CUT = "…"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lines whose cells stand one below the other.

    In more than `width` columns of a terminal (None: any number) the widest cells are cut, but never `head`.
    """
    table = [head, *([shorten(cell, LONGEST_LINE) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    if width is not None:
        widths = _fitted(widths, [_width(cell) for cell in head], width - len(_GAP) * (len(head) - 1))
    return [_GAP.join(_cells(row, widths)).rstrip() for row in table]


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """Narrower ones, the widest of them first, until they fit or there is nothing left to take."""
    fitted = list(widths)
    while sum(fitted) > room:
        yielding = [i for i, each in enumerate(fitted) if each > least[i]]
        if not yielding:
            break
        fitted[max(yielding, key=fitted.__getitem__)] -= 1
    return fitted


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for cell, width in zip(row, widths, strict=True):
        text = cell if _width(cell) <= width else _beginning(cell, width - 1) + _CUT
        yield text + " " * (width - _width(text))


def _beginning(text: str, width: int) -> str:
    """As much of it as fits."""
    end = len(text)
    while _width(text[:end]) > width:
        end -= 1
    return text[:end]


def _width(text: str) -> int:
    """Columns that it takes on a terminal: two for each wide character, none for one that combines."""
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "FW" else 1 for each in text)
