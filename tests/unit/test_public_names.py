"""The package `rheostat`: names that cost nothing until they are used."""

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rheostat

PACKAGES = ["rheostat", "rheostat.plugins", "rheostat.testing", "rheostat_flagsources.growthbook"]


def for_type_checkers(package: str) -> set[str]:
    source = Path(str(import_module(package).__file__)).read_text()
    blocks = [each for each in ast.parse(source).body if isinstance(each, ast.If)]
    imports = [each for block in blocks[:1] for each in block.body if isinstance(each, ast.ImportFrom)]
    return {alias.name for each in imports for alias in each.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    """Type checkers see the names of ``__all__``, and each of them can be imported."""
    module = import_module(package)
    assert set(module.__all__) == for_type_checkers(package)
    assert [] == [name for name in module.__all__ if getattr(module, name, None) is None]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there(package: str) -> None:
    """It is an AttributeError that says so, as of any module."""
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'strat'"):
        _ = import_module(package).strat


def test_names_show_before_they_are_used() -> None:
    """An interactive session completes them."""
    assert {*rheostat.__all__, "__version__"} <= {*dir(rheostat)}


def test_importing_it_imports_nothing() -> None:
    """Neither a part of it nor anything of the standard library: what a process does not use it does not pay for."""
    code = "import sys; before = {*sys.modules}; import rheostat; print(sorted({*sys.modules} - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "['rheostat']\n" == ran.stdout


@pytest.mark.parametrize(
    ("name", "dependency"), [("plugins.Reading", "transitions"), ("State", "yaml"), ("plugins.Reading", "yaml")]
)
def test_a_name_brings_no_more_than_it_needs(name: str, dependency: str) -> None:
    """The contracts for plug-ins need neither the state machine nor a parser of YAML."""
    code = f"import sys, rheostat; rheostat.{name}; print({dependency!r} in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False\n" == ran.stdout


@pytest.mark.parametrize("package", ["rheostat", "rheostat.plugins"])
def test_public_classes_say_where_they_are_public(package: str) -> None:
    """In a traceback, a repr and a pickle: the wing that holds one may change."""
    module = import_module(package)
    classes = {name: found for name in module.__all__ if isinstance(found := getattr(module, name), type)}
    assert "rheostat" == classes.pop("Health", rheostat.Health).__module__
    assert {} == {name: each for name, each in classes.items() if each.__module__ != package and name != "Value"}


def test_a_transition_can_be_pickled() -> None:
    """An observer may send it to another process."""
    cause = rheostat.Cause("flag", "on", None, True)
    made = rheostat.Transition(
        1, rheostat.State.STOPPED, rheostat.State.RUNNING, rheostat.Trigger.STARTED, cause, {"rate": 20}, (), 1.5
    )
    assert made == pickle.loads(pickle.dumps(made))
