"""The documents are true."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import rheostat
from rheostat._cli.commands import FINE, main
from rheostat._cli.diagram import mermaid
from rheostat._config.config import load_config
from rheostat._config.registry import BACKENDS, LAYERS, SOURCES
from rheostat._core.policy import Policy
from rheostat._report.event import EventName

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "config.example.yaml").read_text()


def block(language: str, containing: str) -> str:
    """The README's code block in that language with that text in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(each for each in blocks if containing in each)


@pytest.mark.parametrize("name", ["config.example.yaml", "examples/staging.yaml", "examples/production.yaml"])
def test_the_example_configurations_are_fine(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`rheostat check` finds nothing wrong with them."""
    assert FINE == main(["check", str(ROOT / name)]), capsys.readouterr()


def test_the_reference_configuration_documents_every_key() -> None:
    """Each key of the policy, the options and the parameters stands in config.example.yaml, with its default."""
    from rheostat._config.config import Document
    from rheostat_backends.pyroscope.backend import PyroscopeBackend, PyroscopeOptions
    from rheostat_flagsources.growthbook import GrowthBookOptions
    from rheostat_flagsources.launchdarkly import LaunchDarklyOptions
    from rheostat_flagsources.openfeature import OpenFeatureOptions
    from rheostat_flagsources.yaml_file import YamlFileOptions

    keys = [
        *Document._fields,
        *Policy._fields,
        *PyroscopeOptions.__dataclass_fields__,
        *YamlFileOptions.__dataclass_fields__,
        *GrowthBookOptions.__dataclass_fields__,
        *LaunchDarklyOptions.__dataclass_fields__,
        *OpenFeatureOptions.__dataclass_fields__,
        *(PyroscopeBackend.parameters or {}),
        *("flag", "default", "clamp", "min", "max", "choices", "otherwise", "hold", "off", "initial"),
    ]
    assert [] == [key for key in keys if not re.search(rf"\b{key}\b", REFERENCE)]


def _commented_sources() -> list[str]:
    """The source sections that the reference configuration has as comments."""
    blocks = re.findall(r"^# source:\n(?:#   .*\n)+", REFERENCE, re.MULTILINE)
    return [re.sub(r"^# ", "", each, flags=re.MULTILINE) for each in blocks]


@pytest.mark.parametrize("source", _commented_sources())
def test_the_other_sources_of_the_reference_configuration_are_fine(source: str, tmp_path: Path) -> None:
    """Each of them may stand in the place of the first."""
    active = re.search(r"^source:\n(?:  .*\n)+", REFERENCE, re.MULTILINE)
    assert active is not None
    path = tmp_path / "config.yaml"
    path.write_text(REFERENCE.replace(active[0], source))
    kinds = re.findall(r"(?<!_)kind: (\w+)", source)
    layers = [f"layer {number} ({kind})" for number, kind in enumerate(kinds[1:], 1)] or [""]
    assert layers == list(load_config(path).wire().sources)


def test_every_source_is_in_the_reference_configuration() -> None:
    """Those that ship with Rheostat, and layers."""
    kinds = {re.findall(r"(?<!_)kind: (\w+)", each)[0] for each in _commented_sources()}
    assert {*SOURCES.builtins, LAYERS} == {*kinds, "yaml"}


def test_the_reference_configuration_shows_the_defaults() -> None:
    """The policy that it spells out is the one that a file without a policy has."""
    shown, default = load_config(ROOT / "config.example.yaml").policy, Policy()
    assert default == shown


def test_the_readmes_diagram_is_the_machine() -> None:
    """The picture is generated from the table of moves."""
    assert mermaid() + "\n" == block("mermaid", "stopped")


def test_the_readmes_configuration_is_fine(tmp_path: Path) -> None:
    """The first thing that a reader copies works."""
    path = tmp_path / "config.yaml"
    path.write_text(block("yaml", "application"))
    assert FINE == main(["check", str(path)])


def test_the_readmes_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example in code governs with the example configuration."""
    (tmp_path / "config.yaml").write_text(block("yaml", "application").replace("pyroscope", "noop"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python", "rheostat.start"), "README.md", "exec"), {})
    assert "stopped\n" == capsys.readouterr().out


def test_only_public_names_are_exported() -> None:
    """The names of `rheostat` are those of its __all__, in order, and each has a docstring or is a plain type."""
    assert sorted(rheostat.__all__) == rheostat.__all__
    assert all(hasattr(rheostat, name) for name in rheostat.__all__)
    modules = {path.stem for path in (ROOT / "reconciler/rheostat").iterdir()}
    assert set() == modules & {*rheostat.__all__}


def test_the_entry_points_are_the_built_ins() -> None:
    """The entry points of pyproject.toml are those that the core's own tables name."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for family in (SOURCES, BACKENDS):
        assert {kind: builtin.target for kind, builtin in family.builtins.items()} == entry_points[family.group]


def test_each_promise_names_a_test_that_is_there() -> None:
    """The list of promises is one of tests, and the README has the same."""
    promises = (ROOT / "docs/promises.md").read_text().partition("## What cannot be promised")[0]
    assert re.findall(r"^- \*\*(.+?)\*\*", README, re.MULTILINE) == re.findall(
        r"^- \*\*(.+?)\*\*", promises, re.MULTILINE
    )
    linked = re.findall(r"\[([tT]est\w+)\]\(\.\./(tests/[\w/]+\.py)\)", promises)
    assert len(linked) >= promises.count("\n- **")
    missing = [
        name
        for name, path in linked
        if not re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert [] == missing


def test_the_reference_has_every_name_field_event_and_variable() -> None:
    """All that a process shows or reads is documented, and nothing else is."""
    reference = (ROOT / "docs/reference.md").read_text()

    def table(title: str) -> set[str]:
        section = reference.partition(f"## {title}\n")[2].partition("\n## ")[0]
        cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        return {name for cell in cells for name in re.findall(r"`([A-Za-z_]+)", cell)}

    code = "".join(path.read_text() for path in (ROOT / "reconciler/rheostat").rglob("*.py"))
    assert {*get_args(EventName)} == table("Events")
    assert {*rheostat.Status._fields} == table("Status")
    assert {*re.findall(r"\bRHEOSTAT_[A-Z_]+[A-Z]\b", code)} == table("Environment")
    named = set(re.findall(r"`([A-Za-z]+)", reference.partition("## Names")[2].partition("## Status")[0]))
    assert set() == {*rheostat.__all__} - named
