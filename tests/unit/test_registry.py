"""From a kind to a class, and what is said when there is none."""

import importlib.metadata
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from rheostat._config.registry import BACKENDS, SOURCES, BrokenPlugin, BuiltIn, Family, UnknownKind

COMPLETE = """
    class Profiler:
        Options = dict
        parameters = None
        def start(self, settings): ...
        def stop(self): ...
"""


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the module `acme`, importable for the time of the test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> None:
        (tmp_path / "acme.py").write_text(textwrap.dedent(source))

    yield write
    sys.modules.pop("acme", None)


def announce(folder: Path, group: str, *lines: str) -> None:
    """Install a distribution that announces plug-ins, as pip leaves it behind."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


@pytest.mark.parametrize(
    ("family", "kind", "name"),
    [
        (SOURCES, "yaml", "YamlFileSource"),
        (BACKENDS, "noop", "NoopBackend"),
        (BACKENDS, "pyroscope", "PyroscopeBackend"),
    ],
)
def test_a_built_in_is_found_by_its_name(family: Family, kind: str, name: str) -> None:
    """The plug-ins that ship with Rheostat have short names."""
    assert name == family.resolve(kind).__name__


def test_a_built_in_is_found_without_scanning_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan costs more than everything else at start, and nobody's distribution may take a built-in's place."""

    def scan(**_: str) -> NoReturn:
        raise AssertionError("entry points were scanned")

    monkeypatch.setattr(importlib.metadata, "entry_points", scan)
    assert "NoopBackend" == BACKENDS.resolve("noop").__name__


@pytest.mark.parametrize("target", ["acme:Profiler", "acme:Profiler [fast]"])
def test_an_installed_distribution_announces_plugins(
    tmp_path: Path, write_module: Callable[[str], None], target: str
) -> None:
    """An entry point's name is a kind, whichever way the entry point is written."""
    write_module(COMPLETE)
    announce(tmp_path, "rheostat.backends", f"acme = {target}")
    assert "Profiler" == BACKENDS.resolve("acme").__name__


def test_a_class_is_named_by_its_module(write_module: Callable[[str], None]) -> None:
    """A class needs no distribution, and may be inside another."""
    write_module("class Outer:" + textwrap.indent(COMPLETE, "    "))
    assert "Outer.Profiler" == BACKENDS.resolve("acme:Outer.Profiler").__qualname__


def test_an_unknown_kind_lists_those_there_are_and_the_nearest(
    tmp_path: Path, write_module: Callable[[str], None]
) -> None:
    """Built-ins and entry points of the same family are listed, and no others."""
    announce(tmp_path, "rheostat.backends", "parca = acme:Profiler")
    with pytest.raises(UnknownKind) as caught:
        BACKENDS.resolve("pyroscop")
    error = caught.value
    assert ("'pyroscop'", "did you mean 'pyroscope'?") == (error.found, error.hint)
    assert "one of datadog, files, noop, otlp, parca, pyroscope, sentry, or package.module:Class" == error.expected
    assert all(part in str(error) for part in (error.found, error.expected, error.hint))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import no_such_vendor_sdk", "No module named 'no_such_vendor_sdk'"),
        ("def broken(:", "SyntaxError"),
        ("", "has no attribute 'Profiler'"),
        (COMPLETE.replace("def stop", "def halt"), "it has no stop"),
        ("class Profiler: ...", "it has no Options, parameters, start, stop"),
        (textwrap.dedent(COMPLETE) + "Profiler = Profiler()", "it is not a class"),
        ("def Profiler(options, identity): ...", "it is not a class"),
    ],
)
def test_what_cannot_be_used_says_why(write_module: Callable[[str], None], source: str, why: str) -> None:
    """Whatever a module does when it is imported ends in one error that names the kind and the cause."""
    write_module(textwrap.dedent(source))
    with pytest.raises(BrokenPlugin) as caught:
        BACKENDS.resolve("acme:Profiler")
    assert "'acme:Profiler'" in caught.value.found
    assert why in caught.value.found
    assert "an importable backend class with Options, parameters, start, stop" == caught.value.expected


@pytest.mark.parametrize(
    "kind", ["no_such_module:Profiler", "acme:", ":Profiler", "..acme:Profiler", "acme\0:Profiler"]
)
def test_a_name_that_leads_nowhere_is_one_error(write_module: Callable[[str], None], kind: str) -> None:
    """Half a name, a relative one or that of no module is an error like any other."""
    write_module(COMPLETE)
    with pytest.raises(BrokenPlugin, match="cannot be used"):
        BACKENDS.resolve(kind)


def test_a_missing_vendor_is_told_with_the_command_that_installs_it() -> None:
    """The extra to install is printed exactly, and what is installed is not complained about."""
    missing = BuiltIn("acme:Profiler", vendors=("yaml", "no_such_vendor_sdk"), extra="acme").missing()
    assert "the package 'no_such_vendor_sdk' is not installed: pip install 'rheostat[acme]'" == missing
    assert BuiltIn("acme:Profiler", vendors=("yaml",), extra="acme").missing() is None
    assert BuiltIn("acme:Profiler").missing() is None
