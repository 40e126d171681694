"""Errors in files that a person wrote, with the place of each."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rheostat._contract.text import shorten

_LONGEST: Final = 2000
_MOST: Final = 100
_NAME: Final = re.compile(r"[\w.$/-]*")


class Place(NamedTuple):
    """Where in which file: line and column count from 1; 0 stands for the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


Place.__module__ = "rheostat"


class Problem(NamedTuple):
    """One error: where, at which path in the document, what was found, what was expected."""

    place: Place
    path: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        # Keys are shown as the file has them: they must not command the terminal that shows them.
        return shorten(f"{self.place}: {path}found {self.found}, expected {self.expected}{hint}", _LONGEST)


Problem.__module__ = "rheostat"


class ConfigError(ValueError):
    """A configuration that cannot be used. `problems` holds all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(problems, key=lambda p: (p.place.line, p.place.column))
        super().__init__("\n".join(map(str, self.problems)))


ConfigError.__module__ = "rheostat"


class Problems(list[Problem]):
    """All that is wrong, up to a number that nobody reads: a file made to be slow has thousands."""

    def append(self, problem: Problem) -> None:
        """Raises `TooManyProblems`."""
        super().append(problem)
        if len(self) >= _MOST:
            raise TooManyProblems(self)


class TooManyProblems(ConfigError):
    """There may be more, which are not looked for."""


def shown_key(key: str) -> str:
    """A key as it may be shown: where the space after the colon was forgotten it holds a value too, maybe a secret."""
    name = _NAME.match(key)
    assert name is not None
    return key if name.end() == len(key) else f"{name[0]}…"


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """``did you mean 'x'?`` for the nearest of the known words, or an empty string.

    `likeness` is the least of it, from 0 to 1, that counts as near.
    """
    # Only errors pay for this import.
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"did you mean {near[0]!r}?" if near else ""
