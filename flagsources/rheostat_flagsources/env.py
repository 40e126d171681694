"""Environment variables as flags: constants of a deployment, for a layer above or below a flag product."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rheostat.plugins import Identity, InvalidOptions, Reading

_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class EnvOptions:
    """The ``source`` section: `prefix` is what the names of the variables begin with."""

    prefix: str = "FLAG_"

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidOptions({"prefix": "letters, digits and underscores, like FLAG_"})


class EnvSource:
    """Reads them once: nobody changes the environment of a process that runs."""

    Options: ClassVar[type] = EnvOptions
    is_thread_free: ClassVar[bool] = True
    poll_interval: ClassVar[float | None] = None

    def __init__(self, options: EnvOptions, identity: Identity) -> None:
        self._prefix = options.prefix
        self._variables = {name: text for name, text in os.environ.items() if name.startswith(options.prefix)}
        self._reading: Reading | None = None

    def open(self, changed: Callable[[], None]) -> None:
        """Nothing to do: nothing ever changes."""

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self._reading is None:
            names = {flag: self._variable(flag) for flag in wanted}
            found = {flag: name for flag, name in names.items() if name in self._variables}
            self._reading = Reading({flag: self._variables[name] for flag, name in found.items()}, found)
        return self._reading

    def known_flags(self) -> Iterable[str]:
        """As their variables are called: which characters of a flag an underscore stands for cannot be told."""
        return [name.removeprefix(self._prefix).lower() for name in self._variables]

    def close(self) -> None:
        """Nothing to let go of."""

    def _variable(self, flag: str) -> str:
        return self._prefix + re.sub(r"[^A-Z0-9]", "_", flag.upper())
