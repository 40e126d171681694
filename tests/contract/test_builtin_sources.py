"""The flag sources that ship with Rheostat hold what the kit asks of any."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

# What a source imports at its first read is not for its promptness.
import growthbook  # noqa: F401
import ldclient  # noqa: F401
import pytest

from contract.file_provider import WHERE
from contract.right import RightProduct
from rheostat.testing import FlagSourceContract
from support.products import GrowthBook, LaunchDarkly, Product, YamlFile


class _Productive(FlagSourceContract):
    """A product of the other tests, and one of its ways to fail."""

    fault: ClassVar[str]

    def make(self, folder: Path) -> Product:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def product(self, tmp_path: Path) -> Iterator[None]:
        with self.make(tmp_path) as self.entered:
            yield

    def section(self) -> str:
        return json.dumps(self.entered.section())

    def say(self, flags: Mapping[str, object]) -> None:
        self.entered.say(flags)

    def break_down(self) -> None:
        self.entered.break_(self.fault)

    def mend(self) -> None:
        self.entered.mend()


class TestYaml(_Productive):
    """A file that vanishes."""

    fault = "missing"

    def make(self, folder: Path) -> Product:
        return YamlFile(folder)


class TestGrowthBook(_Productive):
    """A server that is down; changes come by its stream."""

    fault = "refused"

    def make(self, folder: Path) -> Product:
        return GrowthBook()


class TestLaunchDarkly(_Productive):
    """A server that is down; changes come by its stream."""

    fault = "refused"

    def make(self, folder: Path) -> Product:
        return LaunchDarkly()

    def section(self) -> str:
        return json.dumps({**self.entered.section(), "start_wait": "300ms"})


class TestOpenFeature(FlagSourceContract):
    """A provider that the application makes for Rheostat, and that loses its file."""

    imports: ClassVar[tuple[str, ...]] = ("contract.file_provider",)
    shared: ClassVar[tuple[str, ...]] = ("openfeature-event-handler",)

    @pytest.fixture(autouse=True)
    def product(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = RightProduct(tmp_path)
        monkeypatch.setenv(WHERE, str(self.file.path))

    def section(self) -> str:
        return "{kind: openfeature, provider: 'contract.file_provider:make', poll_interval: 100ms, start_wait: 300ms}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.file.say(flags)

    def break_down(self) -> None:
        self.file.break_down()

    def mend(self) -> None:
        self.file.mend()
