"""Each check of the kits catches what it is there to catch."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import pytest

from contract.wrong import BACKENDS, SOURCES, class_name
from rheostat.testing import BackendContract, FlagSourceContract

ROOT: Final = Path(__file__).parents[2]
KITS: Final = Path(__file__).with_name("wrong") / "kits.py"
AT_ONCE: Final = 6
LONGEST: Final = 150.0

pytestmark = pytest.mark.timeout(2 * LONGEST)


class Outcome(NamedTuple):
    """How a check ended: what it told, and the place in the code where it told that."""

    verdict: str
    told: str
    place: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """Of each wrong plug-in, by its test class: how the check went that is named for it."""
    folder = tmp_path_factory.mktemp("wrong")
    plugins = [*SOURCES, *BACKENDS]
    # They wait in vain most of the time, and can do so side by side.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = pool.map(lambda part: _run(plugins[part::AT_ONCE], folder / f"{part}.xml"), range(AT_ONCE))
        return {name: outcome for part in parts for name, outcome in part.items()}


def _run(plugins: Sequence[Any], report: Path) -> Mapping[str, Outcome]:
    checks = [f"{KITS}::{class_name(each)}::{each.caught_by}" for each in plugins]
    options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", f"--basetemp={report.with_suffix('.d')}"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *checks],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert report.exists(), ran.stdout + ran.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {case.get("classname", "").rpartition(".")[2]: _outcome(case) for case in cases}


def _outcome(case: ElementTree.Element) -> Outcome:
    for verdict in ("failure", "error", "skipped"):
        found = case.find(verdict)
        if found is not None:
            lines = (found.text or "").splitlines() or [""]
            told = [line.removeprefix("E ").strip() for line in lines if line.startswith("E ")]
            return Outcome(verdict, "\n".join(told), lines[-1])
    return Outcome("passed", "", "")


@pytest.mark.parametrize("plugin", [*SOURCES, *BACKENDS], ids=class_name)
def test_what_is_wrong_is_caught(plugin: Any, outcomes: Mapping[str, Outcome]) -> None:
    """The check that is named for a wrong plug-in fails, by an assertion of the kit that tells what is wrong."""
    outcome = outcomes[class_name(plugin)]
    assert "failure" == outcome.verdict, outcome
    assert plugin.told in outcome.told
    assert "rheostat/testing/" in outcome.place
    assert outcome.place.endswith(": AssertionError")


@pytest.mark.parametrize(("kit", "plugins"), [(FlagSourceContract, SOURCES), (BackendContract, BACKENDS)])
def test_every_check_catches_something(kit: type, plugins: list[Any]) -> None:
    """There is no check for which nothing wrong is named."""
    checks = {name for name in dir(kit) if name.startswith("test_")}
    assert checks == {each.caught_by for each in plugins}
