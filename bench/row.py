"""One line of the table: what was measured, and whether the promise was kept."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """Cells that are ready to be printed, whether the promise was kept, and a note for below the table.

    `ratio` is that to what is promised against, else to the naive thread.
    """

    what: str
    rheostat: str
    naive: str
    ratio: str
    promise: str
    kept: bool
    note: str = ""

    @classmethod
    def of(
        cls,
        what: str,
        rheostat: float,
        naive: float,
        *,
        limit: float,
        unit: str = "",
        tolerance: float = 0,
        note: str = "",
    ) -> "Row":
        """A number that is promised to be `limit` at most; `tolerance` is what measuring may add. All in `unit`."""
        return cls(
            what=what,
            rheostat=show(rheostat, unit),
            naive=show(naive, unit),
            ratio=f"{_digits(rheostat / naive, 2)} x" if rheostat > 0 and naive > 0 else "",
            promise=f"≤ {show(limit, unit)}" if limit else "0",
            kept=rheostat <= limit + tolerance,
            note=note,
        )

    @classmethod
    def times(
        cls,
        what: str,
        rheostat: float,
        naive: float,
        *,
        most: float,
        yardstick: float,
        called: str,
        unit: str = "",
        note: str = "",
    ) -> "Row":
        """A number that is promised to be `most` times the `yardstick`, which was measured in the same run."""
        row = cls.of(what, rheostat, naive, limit=most * yardstick, unit=unit, note=note)
        ratio = f"{_digits(rheostat / yardstick, 2)} x" if rheostat > 0 and yardstick > 0 else ""
        return row._replace(ratio=ratio, promise=f"≤ {most:g} x {called} ({show(yardstick, unit)})")

    @classmethod
    def missing(cls, what: str, why: str) -> "Row":
        """A promise that could not be measured is not kept."""
        return cls(what, "not measured", "", "", "", kept=False, note=why)


def show(value: float, unit: str = "") -> str:
    return f"{_digits(value, 3)} {unit}".rstrip()


def _digits(value: float, significant: int) -> str:
    whole = abs(value) >= 10 ** (significant - 1) or value == int(value)
    return f"{value:.0f}" if whole else f"{value:.{significant}g}"


def table(rows: Sequence[Row]) -> str:
    """A Markdown table with aligned columns, and the notes below it."""
    head = ("what", "Rheostat", "naive thread", "ratio", "promise", "kept")
    cells: list[Sequence[str]] = [head, *((*row[:5], "yes" if row.kept else "**no**") for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    lines = [_line(each, widths) for each in cells]
    return "\n".join([*lines, "", *(f"- {row.what}: {row.note}" for row in rows if row.note)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
