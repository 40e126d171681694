"""The backends that ship with Rheostat hold what the kit asks of any."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Final

import pyroscope
import pytest

from rheostat import Value
from rheostat.testing import BackendContract

EAR: Final = "contract.noop_ear"
ON_LINUX: Final = pytest.mark.skipif(sys.platform != "linux", reason="the agent's threads are only known on Linux")


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


class _OfTheAgent(BackendContract):
    """The real agent; a session of somebody else's is in its way."""

    settings: ClassVar[Mapping[str, Value]] = {"sample_rate": 100}

    @pytest.fixture(autouse=True)
    def others_session(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield
        self.mend()

    def is_profiling(self) -> bool:
        return any(name == "rheostat-agent" for name in _threads())

    def break_down(self) -> None:
        assert pyroscope.configure(application_name="other", server_address="http://127.0.0.1:1")

    def mend(self) -> None:
        pyroscope.shutdown()


@ON_LINUX
class TestPyroscope(_OfTheAgent):
    """Nobody takes anything from it."""

    def section(self) -> str:
        return "{kind: pyroscope, server_address: 'http://127.0.0.1:1'}"


@ON_LINUX
class TestFiles(_OfTheAgent):
    """The folder is there."""

    @pytest.fixture(autouse=True)
    def profiles(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "profiles"

    def section(self) -> str:
        return f"{{kind: files, folder: '{self.folder}'}}"


@ON_LINUX
class TestOtlp(_OfTheAgent):
    """Nobody takes anything from it."""

    def section(self) -> str:
        return "{kind: otlp, endpoint: 'http://127.0.0.1:1'}"


def _threads() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        # It may have ended since.
        with suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
            yield file.read().strip()
