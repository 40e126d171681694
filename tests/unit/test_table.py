"""Cells one below the other, on a terminal of any width."""

import unicodedata

import pytest

from rheostat._cli.table import columns

HEAD = ("name", "value", "rule")


def taken(line: str) -> int:
    """Columns of a terminal, counted by another rule than the one under test: none here combines."""
    return sum(1 + (unicodedata.east_asian_width(each) == "W") for each in line)


def test_cells_stand_one_below_the_other() -> None:
    """Nothing is cut where any width is fine."""
    assert ["name  value  rule", "a     x      " + "y" * 200, "b            z"] == columns(
        HEAD, [("a", "x", "y" * 200), ("b", "", "z")]
    )


@pytest.mark.parametrize("width", [20, 30, 80])
def test_the_widest_cells_are_cut_to_fit(width: int) -> None:
    """Each line fits, what is short is whole, and what is cut says so."""
    head, first, second = columns(HEAD, [("a", "x" * 60, "y" * 90), ("b", "1", "2")], width)
    assert [True] * 3 == [taken(line) <= width for line in (head, first, second)]
    assert width == taken(first)
    assert [list(HEAD), ["b", "1", "2"]] == [head.split(), second.split()]
    assert [True, True] == [cell.endswith("…") for cell in first.split()[1:]]


def test_the_head_is_never_cut() -> None:
    """A terminal too narrow for it wraps the lines, as it would anyway."""
    head, line = columns(HEAD, [("abcdef", "ghijklm", "nopqrst")], 3)
    assert ["name  value  rule", "abc…  ghij…  nop…"] == [head, line]


def test_wide_and_combining_characters_are_counted_as_a_terminal_shows_them() -> None:
    """A cut never leaves half of one."""
    wide = columns(HEAD, [("a", "値" * 30, "y"), ("b", "1", "z")], 25)
    assert taken(wide[0]) - len("rule") == taken(wide[1]) - 1 == taken(wide[2]) - 1
    assert [True] * 3 == [taken(line) <= 25 for line in wide]
    combined = columns(HEAD, [("a", "e\u0301" * 5, "y"), ("b", "12345", "z")])
    assert "a     " + "e\u0301" * 5 + "  y" == combined[1]


@pytest.mark.parametrize("nasty", ["\x1b[31mred", "a\nb", "\u202etxt", "\x9b2J", "a\tb", "\ud800"], ids=ascii)
def test_nothing_in_a_cell_commands_the_terminal(nasty: str) -> None:
    """A character that cannot be printed is escaped, and so cannot be cut in two either."""
    for width in (None, *range(17, 40)):
        assert [True, True] == [line.isprintable() for line in columns(HEAD, [(nasty, nasty, nasty)], width)]
