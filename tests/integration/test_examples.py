"""The distributions in examples/ are built, installed beside Rheostat's own wheel, and tested, as their users would."""

import re
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from support.wheels import ROOT, UV, printed_by, wheel_of

EXAMPLES: Final = ["flagsource-http", "backend-memray"]
KIT: Final = 20
"""Tests that the kit alone has, at least."""


class Installed(NamedTuple):
    """An example in an environment of its own; the folder has what it does not install: its tests and its README."""

    environment: Path
    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        return printed_by([self.environment / "bin" / program, *arguments], self.folder)


@pytest.fixture(scope="module", params=EXAMPLES)
def example(
    request: pytest.FixtureRequest, rheostat_wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    source, place = ROOT / "examples" / request.param, tmp_path_factory.mktemp(request.param)
    installed = Installed(place / "environment", place / "user")
    wheel = wheel_of(source, place / "wheel")
    printed_by([*UV, "venv", "--quiet", "--python", sys.executable, installed.environment], place)
    into: list[str | Path] = ["--quiet", "--python", installed.environment, "--constraint", ROOT / "requirements.lock"]
    printed_by([*UV, "pip", "install", *into, f"rheostat @ {rheostat_wheel.as_uri()}", f"{wheel}[test]"], place)
    shutil.copytree(source / "tests", installed.folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for each in ("pyproject.toml", "README.md"):
        shutil.copy(source / each, installed.folder)
    return installed


@pytest.mark.timeout(180)
def test_its_own_tests_pass(example: Installed) -> None:
    """Those of the kit and more, without one that is skipped, and nothing but what is installed is imported."""
    where = example.run("python", "-c", "import rheostat; print(rheostat.__file__)")
    assert Path(where).is_relative_to(example.environment)
    last = example.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider").splitlines()[-1]
    passed = re.fullmatch(r"(\d+) passed in .*", last)
    assert passed, last
    assert int(passed[1]) > KIT


@pytest.mark.timeout(180)
def test_its_configuration_is_fine(example: Installed) -> None:
    """That of its README, which names it by its entry point."""
    (config,) = re.findall(
        r"^```yaml\n(.*?)^```$", (example.folder / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (example.folder / "config.yaml").write_text(config)
    assert f"{example.folder}/config.yaml: fine" == example.run("rheostat", "check", "config.yaml")
