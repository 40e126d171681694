"""Objects of the application's that a configuration names."""

import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from rheostat._contract.flagsource import SourceUnavailable
from rheostat._contract.text import text_of

_met: list[tuple[weakref.ref[object], int]] = []
"""Every object of the application's ever met, and the process it was met in first."""


class HostObject:
    """An object of the application's, written as ``package.module:name``; a callable is called to get it.

    As the type of an option it stands for the vendor's client, say, that the application has made already.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises ValueError with what was expected."""
        module, _, name = text.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
            raise ValueError("an object of the application's, as package.module:name")
        return cls(module, name)

    def __str__(self) -> str:
        return f"{self._module}:{self._name}"

    def __repr__(self) -> str:
        return f"HostObject({str(self)!r})"

    def take(self, owner: Callable[[Any], int | None] = lambda _: None) -> Any:
        """The object. Never imports the module: that would race the application's own start-up.

        `owner` tells of an object which process it works in, where that can be known.

        Raises `SourceUnavailable` while the application has not made it, or in a forked child not made it anew.
        """
        module = sys.modules.get(self._module)
        if module is None or getattr(getattr(module, "__spec__", None), "_initializing", False):
            raise SourceUnavailable(f"{self}: the application has not imported {self._module} yet")
        try:
            found: Any = module
            for part in self._name.split("."):
                found = getattr(found, part)
            made = found() if callable(found) else found
        # It is the application's code: it may raise anything.
        except BaseException as error:
            raise SourceUnavailable(f"{self}: {text_of(error)}") from None
        if made is None:
            raise SourceUnavailable(f"{self}: it gave None, expected the application's object")
        self._refuse_parents(made, owner(made))
        return made

    def _refuse_parents(self, made: object, owner: int | None) -> None:
        if is_inherited(made) if owner is None else owner != os.getpid():
            raise SourceUnavailable(
                f"{self}: it was made before this process was forked and does not work here; make it anew in the child"
            )


HostObject.__module__ = "rheostat.plugins"


def is_inherited(thing: object) -> bool:
    """It was met before in the process that this one was forked from: its threads and sockets are not here.

    What is met for the first time is remembered, and is not inherited.
    """
    here = os.getpid()
    for each, pid in _met:
        if each() is thing:
            return pid != here
    _met[:] = [known for known in _met if known[0]() is not None]
    with suppress(TypeError):
        _met.append((weakref.ref(thing), here))
    return False
