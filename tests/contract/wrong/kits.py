"""The kits over everything that is wrong: run by test_wrong.py, in a process of its own."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

from contract.right import end_all_sessions
from contract.test_right import RightFlags, RightSessions
from contract.wrong import BACKENDS, SOURCES, class_name


class _WrongFlags(RightFlags):
    """Most waits are in vain, and so they are short."""

    patience: ClassVar[float] = 2.0


class _WrongSessions(RightSessions):
    patience: ClassVar[float] = 2.0

    @pytest.fixture(autouse=True)
    def end_sessions(self) -> Iterator[None]:
        yield
        end_all_sessions()


for kit, plugins in ((_WrongFlags, SOURCES), (_WrongSessions, BACKENDS)):
    for plugin in plugins:
        name = class_name(plugin)
        kind = f"{plugin.__module__}:{plugin.__qualname__}"
        globals()[name] = type(name, (kit,), {"kind": kind, "__module__": __name__})
