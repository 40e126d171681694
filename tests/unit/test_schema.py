"""The JSON Schema of a configuration says what the loader says, as far as a schema can."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from rheostat._config.schema import schema
from rheostat.testing import configs

ROOT = Path(__file__).parents[2]
SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
HEAD = "version: 1\napplication: shop\nsource: {kind: yaml, path: flags.yaml}\n"
WHOLE = f"{HEAD}backend: {{kind: pyroscope}}\nenabled: {{flag: 'on'}}\n"


def mistakes(text: str) -> list[str]:
    # As YAML 1.2 has it, and as Rheostat reads it: `on` is no boolean.
    found: Any = VALIDATOR.iter_errors(yaml.load(text, _Loader))
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in found]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[Any] = {
        key: [(tag, pattern) for tag, pattern in each if tag != "tag:yaml.org,2002:bool" or key in "tTfF"]
        for key, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def test_it_is_a_schema_and_the_one_that_is_published() -> None:
    """What editors read in `docs/` is what `rheostat schema` prints."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA == json.loads((ROOT / "docs/rheostat.schema.json").read_text())


def test_the_reference_and_all_that_the_docs_show_pass() -> None:
    """Each whole configuration of a page."""
    shown = [(ROOT / "config.example.yaml").read_text()]
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        shown += re.findall(r"```yaml\n((?:#.*\n)*version: 1\n.*?)```", page.read_text(), re.DOTALL)
    assert 5 < len(shown)
    assert [] == [mistake for each in shown for mistake in mistakes(each)]


@settings(max_examples=100)
@given(configs())
def test_each_generated_configuration_passes(config: str) -> None:
    """Whatever settings, clamps and policies it has."""
    assert [] == mistakes(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WHOLE + "polcy: {}\n", "'polcy' was unexpected"),
        (WHOLE + "policy: {cooldwn: 5s}\n", "'cooldwn'"),
        (WHOLE + "policy: {cooldown: soon}\n", "policy"),
        (WHOLE + "policy: {rollout: {percent: 101}}\n", "policy"),
        (WHOLE + "policy: {budget: {action: halt}}\n", "policy"),
        (WHOLE + "settings: {sample_rat: 3}\n", "'sample_rat' was unexpected"),
        (WHOLE + "settings: {sample_rate: 0}\n", "0 is less than the minimum of 1"),
        (WHOLE + "settings: {mode: fast}\n", "settings.mode"),
        (WHOLE + "settings: {mode: {flag: mode, clamp: {otherwise: never}}}\n", "'never' is not one of"),
        (WHOLE.replace("kind: yaml, path", "kind: yaml, pth"), "'pth' was unexpected"),
        (WHOLE.replace("kind: yaml,", ""), "'kind' is a required property"),
        (WHOLE.replace("kind: yaml", "kind: yml"), "source.kind"),
        (WHOLE.replace("version: 1", "version: 2"), "version"),
        (HEAD + "enabled: {flag: 'on'}\n", "'backend' is a required property"),
        (WHOLE.replace("{kind: pyroscope}", "{kind: pyroscope, sampler: fast}"), "backend.sampler"),
        (WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: []}"), "source.layers"),
    ],
)
def test_a_mistake_is_seen_in_the_editor(text: str, expected: str) -> None:
    """Those that a schema can see: keys, kinds, types, choices and bounds."""
    assert any(expected in each for each in mistakes(text)), mistakes(text)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE + "policy: {cooldown: 5s, start_after: 2, budget: {cpu: 2%, rss: 50MiB}, processes: workers}\n",
        WHOLE + "policy: {cooldown: '${COOLDOWN}', rollout: {percent: {flag: p, default: 1, clamp: {max: 50}}}}\n",
        WHOLE + "settings: {sample_rate: '${RATE:-20}', mode: '${MODE}'}\npolicy:\n",
        HEAD + "backend: {kind: 'shop.profiler:Mine', anything: [1]}\nenabled: true\nsettings: {mine: x}\n",
        WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: [{kind: yaml, path: a}]}"),
    ],
)
def test_what_is_right_is_no_mistake(text: str) -> None:
    assert [] == mistakes(text)
