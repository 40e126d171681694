"""The processes of a service that are governed."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Self


class Processes(NamedTuple):
    """The processes that are governed: `all`, or only the `workers` of a server; written as that word, or with more.

    Of those below ``rheostat run`` only one whose command line fits a pattern of `match`, if there are any, and none of
    `skip`. A pattern like ``NAME=value`` is held against the environment instead.
    """

    of: Literal["all", "workers"] = "all"
    match: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError."""
        if text not in ("all", "workers"):
            raise ValueError("all, workers, or a mapping with match and skip")
        return cls(of=text)  # type: ignore[arg-type]  # one of the two

    def select(self, command: Sequence[str], environ: Mapping[str, str]) -> bool:
        """Whether a process with this command line and environment is one of them."""
        line = " ".join(command)

        def fits(pattern: str) -> bool:
            name, equals, value = pattern.partition("=")
            if equals and name.isidentifier():
                return name in environ and fnmatchcase(environ[name], value)
            return fnmatchcase(line, pattern)

        return (not self.match or any(map(fits, self.match))) and not any(map(fits, self.skip))
