"""The backends that ship with Rheostat hold what the kit asks of any."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import ClassVar, Final

import pyroscope
import pytest

from rheostat import Value
from rheostat.testing import BackendContract

EAR: Final = "contract.noop_ear"


class TestNoop(BackendContract):
    """It profiles nothing: all the evidence is what it says."""

    can_fail = False
    settings: ClassVar[Mapping[str, Value]] = {"rate": 100, "mode": "gil"}
    imports: ClassVar[tuple[str, ...]] = (EAR,)

    @pytest.fixture(autouse=True)
    def ear(self) -> Iterator[None]:
        ear = import_module(EAR)
        ear.listen()
        yield
        ear.stop_listening()

    def section(self) -> str:
        return "{kind: noop, anything: [goes]}"

    def is_profiling(self) -> bool:
        return bool(import_module(EAR).is_profiling())


@pytest.mark.skipif(sys.platform != "linux", reason="the agent's threads are only known on Linux")
class TestPyroscope(BackendContract):
    """The real agent, which nobody takes anything from; a session of somebody else's is in its way."""

    settings: ClassVar[Mapping[str, Value]] = {"sample_rate": 100}

    @pytest.fixture(autouse=True)
    def others_session(self) -> Iterator[None]:
        yield
        self.mend()

    def section(self) -> str:
        return "{kind: pyroscope, server_address: 'http://127.0.0.1:1'}"

    def is_profiling(self) -> bool:
        return any(name == "rheostat-agent" for name in _threads())

    def break_down(self) -> None:
        assert pyroscope.configure(application_name="other", server_address="http://127.0.0.1:1")

    def mend(self) -> None:
        pyroscope.shutdown()


def _threads() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        # It may have ended since.
        with suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
            yield file.read().strip()
