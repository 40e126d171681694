"""The plug-in that every pytest of an environment with Rheostat loads."""

import json
import sys
from pathlib import Path

from support.children import ended

TELLING = """\
import json
import pathlib
import sys

def pytest_unconfigure():
    pathlib.Path("modules.json").write_text(json.dumps([*sys.modules]))
"""


def loaded(folder: Path, *options: str) -> set[str]:
    """The modules of a pytest that has found no tests."""
    (folder / "conftest.py").write_text(TELLING)
    ended([sys.executable, "-m", "pytest", "--collect-only", "--rootdir", ".", *options], folder)
    return set(json.loads((folder / "modules.json").read_text()))


def test_it_costs_nothing_until_a_kit_is_used(tmp_path: Path) -> None:
    """It brings itself and the packages it is in: nothing of the core, neither Hypothesis nor YAML."""
    added = loaded(tmp_path) - loaded(tmp_path, "-p", "no:rheostat")
    assert {"rheostat", "rheostat.testing", "rheostat.testing.plugin"} == added


def test_pytest_does_not_mind_that_the_launcher_was_first(tmp_path: Path) -> None:
    """That the packages are imported already, which pytest has rewritten as they hold a plug-in, is no warning."""
    packages = "rheostat", "rheostat_backends", "rheostat_flagsources"
    (tmp_path / "conftest.py").write_text(
        f"import pytest\nimport {', '.join(packages)}\npytest.register_assert_rewrite{packages}\n"
    )
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    ran = ended([sys.executable, "-m", "pytest", "--rootdir", "."], tmp_path)
    assert (0, False) == (ran.returncode, "warning" in ran.stdout), ran.stdout
