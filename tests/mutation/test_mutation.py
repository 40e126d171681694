"""The property tests see what could be wrong: defects are put into a copy of the core, one at a time."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from mutation.mutants import MUTANTS, SURVIVORS, Mutant
from support.children import environment

ROOT: Final = Path(__file__).parents[2]
CORE: Final = ROOT / "reconciler" / "rheostat"

PROPERTIES: Final = (
    "tests/properties/test_rules.py",
    "tests/properties/test_layers.py",
    "tests/properties/test_brakes.py",
    "tests/properties/test_schedules.py",
    "tests/properties/test_machine.py",
)
"""Those of one function of the core first, those of the whole loop last."""

PURE: Final = (
    *("budget", "desired", "values", "text", "rules", "knowledge", "precedence", "next_step"),
    *("brakes/budget", "brakes/crashes", "brakes/session", "brakes/share", "brakes/source"),
)

AT_ONCE: Final = 2
LONGEST: Final = 900.0
"""Seconds that the tests of one mutant may take; they hang then, and it counts as killed."""

REQUIRED: Final = 0.95

UNBROKEN: Final = Mutant("nothing is wrong", "machine", "three states", "three states")

FAILED: Final = 1
INTERRUPTED: Final = 2
"""How pytest ends; the second also where a source's KeyboardInterrupt comes through to it."""

Record = Callable[[str, object], None]
Fate = Literal["killed", "survived", "unusable"]


class Verdict(NamedTuple):
    """The fate of a mutant, and the test that decided it; or the reason why it is none."""

    mutant: Mutant
    fate: Fate
    by: str

    def __str__(self) -> str:
        return f"{self.fate:8} {self.mutant.module:8} {self.mutant.name}: {self.by}"


def patched(mutant: Mutant, folder: Path) -> Path:
    """A copy of the core with the defect, in a folder for the path."""
    shutil.copytree(CORE, folder / "rheostat", ignore=shutil.ignore_patterns("__pycache__"))
    module = _module(folder / "rheostat", mutant)
    module.write_text(module.read_text().replace(mutant.old, mutant.new))
    return folder


def _module(core: Path, mutant: Mutant) -> Path:
    [module] = core.glob(f"_*/{mutant.module}.py")
    return module


def judged(mutant: Mutant, folder: Path) -> Verdict:
    """Run the property tests against the mutant."""
    copy = patched(mutant, folder)
    env = {
        "CI": "1",
        "PYTHONPATH": f"{copy}:{Path(__file__).parent}",
        "RHEOSTAT_MUTATED": str(copy),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
    }
    options = ("-x", "-q", "--tb=line", "-p", "unshrunk", "-p", "no:cacheprovider")
    # One failure is enough: the likely ones first.
    properties = PROPERTIES if mutant.module in PURE else reversed(PROPERTIES)
    command = [sys.executable, "-m", "pytest", *options, *properties]
    try:
        # What is traced takes longer.
        quiet = {name: value for name, value in environment(env).items() if not name.startswith("COVERAGE")}
        ended = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, encoding="utf-8", timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return Verdict(mutant, "killed", "it hangs")
    finally:
        shutil.rmtree(copy)
    if ended.returncode == 0:
        return Verdict(mutant, "survived", SURVIVORS.get(mutant.name, "unexplained"))
    said = ended.stdout + ended.stderr
    failed = re.search(r"^FAILED \S*?(\w+\.py\S*)|^\++ (Timeout) \++$|^!+ (KeyboardInterrupt) !+$", said, re.MULTILINE)
    if ended.returncode not in (FAILED, INTERRUPTED) or failed is None:
        return Verdict(mutant, "unusable", f"{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return Verdict(mutant, "killed", failed[1] or ("it hangs" if failed[2] else "a KeyboardInterrupt leaves the core"))


def verdicts(mutants: list[Mutant], folder: Path) -> list[Verdict]:
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mutants") as pool:
        return list(pool.map(judged, mutants, (folder / str(number) for number in range(len(mutants)))))


def test_each_mutant_is_made_of_what_the_core_says() -> None:
    """The list does not rot: what is replaced is there once, the names differ, and each survivor is a mutant."""
    sources = {each.module: _module(CORE, each).read_text() for each in MUTANTS}
    assert [] == [each.name for each in MUTANTS if sources[each.module].count(each.old) != 1]
    assert len(MUTANTS) == len({each.name for each in MUTANTS})
    assert set() == SURVIVORS.keys() - {each.name for each in MUTANTS}


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_the_property_tests_kill_what_is_wrong(tmp_path: Path, record_property: Record) -> None:
    """At least 95 % of the mutants; of each other one it is known why. The core as it is passes in the same way."""
    unbroken, *found = verdicts([UNBROKEN, *MUTANTS], tmp_path)
    assert "survived" == unbroken.fate, unbroken
    for each in found:
        print(each)
        record_property("mutant", str(each))
    killed = sum(each.fate == "killed" for each in found)
    print(f"{killed} of {len(found)} are killed")
    assert [] == [str(each) for each in found if each.fate == "unusable"]
    assert [] == [each.mutant.name for each in found if each.fate == "survived" and each.mutant.name not in SURVIVORS]
    assert killed >= REQUIRED * len(found)
