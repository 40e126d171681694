"""The kits over plug-ins that do everything right."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from contract.right import RightProduct, is_profiling
from rheostat.testing import BackendContract, FlagSourceContract


class RightFlags(FlagSourceContract):
    """How the kit is told of the right source's product."""

    kind = "contract.right:RightSource"

    @pytest.fixture(autouse=True)
    def product(self, tmp_path: Path) -> None:
        self.file = RightProduct(tmp_path)

    def section(self) -> str:
        return f"{{kind: '{self.kind}', path: '{self.file.path}'}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.file.say(flags)

    def break_down(self) -> None:
        self.file.break_down()

    def mend(self) -> None:
        self.file.mend()


class RightSessions(BackendContract):
    """How the kit is told of the right backend's sessions."""

    kind = "contract.right:RightBackend"

    @pytest.fixture(autouse=True)
    def prohibition(self, tmp_path: Path) -> None:
        self.path = tmp_path / "forbidden"

    def section(self) -> str:
        return f"{{kind: '{self.kind}', path: '{self.path}'}}"

    def is_profiling(self) -> bool:
        return is_profiling()

    def break_down(self) -> None:
        self.path.touch()

    def mend(self) -> None:
        self.path.unlink()


class TestRightSource(RightFlags):
    """A source that does everything right passes every check."""


class TestTextsOnly(RightFlags):
    """So does one whose product has only texts, once it says so."""

    kind = "contract.right:TextsOnly"
    says: ClassVar[tuple[type, ...]] = (str,)


class TestTellsThatItIsStale(RightFlags):
    """So does one that gives old values and says that they are."""

    kind = "contract.right:TellsThatItIsStale"


class TestRightBackend(RightSessions):
    """A backend that does everything right passes every check."""
