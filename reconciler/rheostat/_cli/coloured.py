"""The table of `rheostat status` on a terminal, by rich."""

from collections.abc import Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS: Final = {"running": "green", "restarting": "yellow", "stopped": "dim"}


def coloured(head: Sequence[str], rows: Sequence[Sequence[str]], troubled: Sequence[bool]) -> str:
    """The rows as a table as wide as the terminal, `troubled` ones in red."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name in ("pid", "state", "since", "left"))
    for row, is_troubled in zip(rows, troubled, strict=True):
        colour = "red" if is_troubled else _COLOURS.get(row[list(head).index("state")], "")
        # As texts: what a process says is no markup.
        table.add_row(
            *(Text(cell, style=colour if name == "state" else "") for name, cell in zip(head, row, strict=True))
        )
    console = Console(file=StringIO(), width=get_terminal_size().columns, force_terminal=True)
    console.print(table)
    shown = console.file
    assert isinstance(shown, StringIO)
    return shown.getvalue().rstrip("\n")
