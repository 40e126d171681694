"""How raw flag values are read, and how they are shown."""

import enum
import math

import pytest

from rheostat._contract.text import printable
from rheostat._contract.values import Unreadable, Value, read_as


class Loud(int):
    """An int whose methods are third-party code."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("third-party code ran")

    __hash__ = int.__hash__
    __lt__ = __gt__ = __int__ = __index__ = __eq__  # type: ignore[assignment]


class Unhashable(type):
    """A type of types that compares by something else than identity cannot be a key."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("third-party code ran")


class OfUnhashableType(metaclass=Unhashable):
    """Not even its type can be looked up."""


class Mode(enum.StrEnum):
    GIL = "gil"


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        (bool, True, True),
        (bool, "false", False),
        (bool, " TRUE\n", True),
        (int, 97, 97),
        (int, "97", 97),
        (int, " 97 ", 97),
        (int, "+5", 5),
        (int, "-5", -5),
        (int, 10.0, 10),
        (int, -0.0, 0),
        (int, 10**30, 10**30),
        (float, 2.5, 2.5),
        (float, 1, 1.0),
        (float, " 10 ", 10.0),
        (float, "-0.25", -0.25),
        (str, "gil", "gil"),
        (str, "", ""),
        (str, "é" * 1024, "é" * 1024),
        (None, 5, 5),
        (None, "5", "5"),
        (None, True, True),
        (None, 1.5, 1.5),
    ],
)
def test_lossless_readings_count(kind: type | None, raw: object, expected: Value) -> None:
    """A value that is of the wanted type, or can be read as it without loss, is taken, with the exact type."""
    actual = read_as(kind, raw)
    assert (type(expected), expected) == (type(actual), actual)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        *[(bool, raw) for raw in (1, 0, 1.0, "yes", "on", "1", "", None, [True], object())],
        *[(int, raw) for raw in (True, None, 97.5, math.nan, math.inf, -math.inf, b"97", [97], {}, object())],
        *[(int, raw) for raw in ("", "1_000", "1e3", "0x10", "010", "97.0", "9 7", "++1", "٩٧", "97\0")],
        *[(int, raw) for raw in ("9" * 101, "9" * 5000, "9" * 1_000_000, " " * 1_000_000 + "9")],
        *[(float, raw) for raw in (True, None, math.nan, math.inf, "nan", "inf", "1e5", ".5", "1.", "1_0", "0x1p3")],
        *[(str, raw) for raw in (None, 5, True, b"gil", ["gil"], "\ud800", "a\0b", "x" * 1025, "x" * 1_000_000)],
        *[(None, raw) for raw in (None, [], {}, b"", math.nan, "\udfff", object())],
        (int, Loud(5)),
        (str, Mode.GIL),
        (None, Mode.GIL),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else type(each).__name__,
)
def test_what_would_lose_something_is_unreadable(kind: type | None, raw: object) -> None:
    """Nothing is guessed, rounded or truncated, and no subclass's code is run."""
    with pytest.raises(Unreadable):
        read_as(kind, raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        (True, True),
        (97, 97),
        (2**64, "a whole number of 65 bits"),
        (10**5000, "a whole number of 16610 bits"),
        (1.5, 1.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("gil", "gil"),
        ("a\nb\0\ud800", "a\\nb\\x00\\ud800"),
        ("x" * 1_000_000, "x" * 80 + "… (1000000 characters)"),
        ([1], "a list"),
        ((1,), "a list"),
        ({"a": 1}, "a mapping"),
        (b"x", "an object of type bytes"),
        (Mode.GIL, "an object of type Mode"),
        (OfUnhashableType(), "an object of type OfUnhashableType"),
        (type("X" * 1000, (), {})(), "an object of type " + "X" * 80 + "… (1000 characters)"),
    ],
    ids=lambda each: type(each).__name__[:20],
)
def test_a_raw_value_is_shown_shortly_on_one_line(raw: object, expected: object) -> None:
    """Whatever a source gave, its rendition is a short printable text or a plain JSON scalar."""
    actual = printable(raw)
    assert (type(expected), expected) == (type(actual), actual)
