"""The configuration: what is read, and what is said about what cannot be."""

import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rheostat import ConfigError
from rheostat._config.config import Config, load_config
from rheostat._core.rules import Limits, Setting
from rheostat.plugins import Secret

HEAD = """
version: 1
application: checkout
source: {kind: yaml, path: flags.yaml}
"""
BACKEND = "backend: {kind: pyroscope}\n"
ENABLED = "enabled: {flag: on}\n"
SOURCE_KINDS = "env, growthbook, http, launchdarkly, layers, ofrep, openfeature, redis, unleash, yaml"

WHOLE = HEAD + BACKEND + ENABLED

Load = Callable[..., Config]
Problems = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a document as config.yaml."""

    def load(document: str, **options: Any) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(document.removeprefix("\n"))
        return load_config(path, **{"env": {}, **options})

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Problems:
    """The problems of a document, each as `line:column: path: found …, expected …`."""

    def problems(document: str, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(document, **options)
        assert "\n".join(map(str, caught.value.problems)) == str(caught.value)
        return [str(each).removeprefix(f"{tmp_path}{os.sep}config.yaml:") for each in caught.value.problems]

    return problems


# What is read


def test_the_least_configuration_has_documented_defaults(load: Load, tmp_path: Path) -> None:
    """Five keys are enough; the rest has the defaults that the reference documents."""
    config = load(WHOLE)
    policy = config.policy
    assert (str(tmp_path / "config.yaml"), "checkout", os.uname().nodename) == (
        config.path,
        config.application,
        config.instance,
    )
    assert ({}, False) == (config.tags, config.disabled)
    assert (30.0, 900.0, 10.0, 10.0, 2.0, 2.0) == (
        policy.resync,
        policy.hold_last_good,
        policy.start_deadline,
        policy.stop_deadline,
        policy.exit_deadline,
        policy.start_after,
    )
    assert (1.0, 300.0, 5.0, 0.0, None) == (
        policy.backoff.initial,
        policy.backoff.max,
        policy.cooldown,
        policy.splay,
        policy.kill_switch,
    )


def test_a_whole_configuration_is_read_as_it_is_meant(load: Load, tmp_path: Path) -> None:
    """Every section, with paths relative to the file and variables from the environment."""
    document = """
        version: 1
        application: checkout
        instance: web-1
        tags: {role: api, version: "${VERSION:-dev}"}
        source: {kind: yaml, path: flags.yaml, poll_interval: 250ms}
        backend: {kind: pyroscope, server_address: http://localhost:4040, http_headers: {Authorization: "Bearer ${T}"}}
        enabled: {flag: profiling_enabled, default: false, clamp: {otherwise: hold}}
        settings:
          sample_rate: {flag: rate, default: 20, clamp: {min: 1, max: 250}}
          mode: {flag: mode, default: gil, clamp: {choices: [gil, cpu], otherwise: "off"}}
          upload_interval: 15
        policy: {resync: 10s, backoff: {initial: 500ms, max: 1h}, kill_switch: off.switch}
    """
    config = load(textwrap.dedent(document), env={"T": "hunter22"}, tags={"role": "worker", "zone": "a"})
    wiring = config.wire()
    assert ("web-1", {"role": "worker", "version": "dev", "zone": "a"}) == (config.instance, config.tags)
    assert (10.0, 0.5, 3600.0, str(tmp_path / "off.switch")) == (
        config.policy.resync,
        config.policy.backoff.initial,
        config.policy.backoff.max,
        config.policy.kill_switch,
    )
    assert (str(tmp_path / "flags.yaml"), 0.25) == (
        wiring.sources[""].options.path,
        wiring.sources[""].options.poll_interval,
    )
    assert {"Authorization": Secret("Bearer hunter22")} == wiring.backend.options.http_headers
    hard = "hard limit of pyroscope"
    assert (
        Setting("enabled", bool, False, "profiling_enabled", (Limits("clamp"), Limits(hard)), "hold"),
        Setting("sample_rate", int, 20, "rate", (Limits("clamp", 1, 250), Limits(hard, 1, 1000))),
        Setting(
            "mode",
            str,
            "gil",
            "mode",
            (Limits("clamp", choices=("gil", "cpu")), Limits(hard, choices=("gil", "cpu", "wall"))),
            "off",
        ),
        Setting("upload_interval", int, 15, None, (Limits("clamp"), Limits(hard, 1, 3600))),
    ) == wiring.rules.all


def test_a_setting_takes_its_default_from_the_backend(load: Load) -> None:
    """Neither a default nor a clamp has to be repeated."""
    rules = load(WHOLE + "settings: {sample_rate: {flag: rate}, mode: {}}").wire().rules
    assert [(20, "rate"), ("gil", None)] == [(each.default, each.flag) for each in rules.settings]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sample_rate: 100", 100),
        ("sample_rate: {default: '100'}", 100),
        ("mode: wall", "wall"),
        ("mem_enabled: on", True),
    ],
)
def test_a_setting_without_a_flag_is_a_constant(load: Load, setting: str, value: object) -> None:
    """With a mapping, or as the bare value."""
    [constant] = load(WHOLE + f"settings: {{{setting}}}").wire().rules.settings
    assert (value, None) == (constant.default, constant.flag)
    assert type(value) is type(constant.default)


@pytest.mark.parametrize(
    "document",
    [
        WHOLE + "settings:\n",
        WHOLE + "settings: {}\n",
        WHOLE + "policy:\n",
        WHOLE + "policy: {backoff: }\n",
        WHOLE + "tags:\n",
        WHOLE + "policy: {kill_switch: null}\n",
        WHOLE + "instance:\n",
        HEAD + ENABLED + "backend:\n  kind: pyroscope\n  tags:\n  http_headers:\n  auth_token:\n",
    ],
)
def test_a_section_whose_keys_are_all_commented_out_is_as_good_as_absent(load: Load, document: str) -> None:
    """An optional key may be left empty."""
    assert load(document).wire()


@pytest.mark.parametrize(("written", "expected"), [("true", True), ("yes", True), ("no", False), ("${OFF}", True)])
def test_it_can_be_disabled(load: Load, written: str, expected: bool) -> None:
    """A plain scalar from a variable is a boolean like any other."""
    assert expected == load(WHOLE + f"disabled: {written}", env={"OFF": "true"}).disabled


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("8760h", 31536000.0),
        ("2.5", 2.5),
        ("0", 0.0),
        ("'10 s'", 10.0),
    ],
)
def test_durations_are_written_as_people_do(load: Load, written: str, seconds: float) -> None:
    """With a unit, or in seconds; a year at most."""
    assert seconds == load(WHOLE + f"policy: {{hold_last_good: {written}}}").policy.hold_last_good


@pytest.mark.parametrize(
    "written", ["10x", "-1s", "1_0s", "12:30", "1e3", ".5s", "8761h", "", "[1]", "s", "1m30s", "٣s", ".inf"]
)
def test_what_is_no_duration_is_told_with_examples(problems: Problems, written: str) -> None:
    """Nothing negative, endless or guessed."""
    [problem] = problems(WHOLE + f"policy: {{cooldown: {written}}}")
    assert "policy.cooldown: found " in problem
    assert "expected a " in problem


def test_paths_are_relative_to_the_file_and_know_the_home_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder of the service does not matter."""
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/somebody")
    for written, expected in {
        "sub/off": f"{tmp_path}/sub/off",
        "/run/off": "/run/off",
        "~/off": "/home/somebody/off",
    }.items():
        assert expected == load(WHOLE + f"policy: {{kill_switch: {written}}}").policy.kill_switch


# What is said


def test_an_error_has_place_path_what_was_found_what_was_expected_and_a_hint(load: Load, tmp_path: Path) -> None:
    """One line that an editor can jump to."""
    with pytest.raises(ConfigError) as caught:
        load(WHOLE + "settings:\n  sample_rate: {flag: rate, clamp: {otherwise: defualt}}\n")
    assert (
        f"{tmp_path}/config.yaml:7:48: settings.sample_rate.clamp.otherwise: found 'defualt', "
        "expected one of default, hold, off (did you mean 'default'?)"
    ) == str(caught.value)


def test_all_errors_are_told_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    """Every section is looked at, whatever is wrong with the others."""
    document = """
        version: 2
        applicaton: checkout
        tags: {role: [a], zone: }
        source: {kind: yaml, pth: x}
        backend: {kind: pyroscope, auth_token: [a], report_pid: perhaps}
        enabled: {flag: on, default: maybe}
        settings:
          sample_rate: {flag: rate, default: 0, clamp: {min: 300, max: 200, choices: [a]}}
          sampel_rate: {}
          mode: {flag: m, clamp: {choices: [gil, walls], min: 1}}
        policy:
          cooldown: fast
          backoff: {initial: 10m, max: 5m}
        disabled: 7
    """
    found = [line.split(": found")[0] for line in problems(textwrap.dedent(document))]
    assert [
        "1:1: application",
        "1:10: version",
        "2:1: applicaton",
        "3:14: tags.role",
        "3:25: tags.zone",
        "4:9: source.path",
        "4:22: source.pth",
        "5:40: backend.auth_token",
        "5:57: backend.report_pid",
        "6:30: enabled.default",
        "8:54: settings.sample_rate.clamp.min",
        "8:79: settings.sample_rate.clamp.choices[0]",
        "9:3: settings.sampel_rate",
        "10:42: settings.mode.clamp.choices",
        "10:55: settings.mode.clamp.min",
        "12:13: policy.cooldown",
        "13:32: policy.backoff.max",
        "14:11: disabled",
    ] == found


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers}"),
            "3:9: source.layers: found no such key, expected a list of sources, the strongest first",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: []}"),
            "3:32: source.layers: found an empty list, expected a list of sources, the strongest first",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layer: 1, layers: [{kind: noop:N}]}"),
            "3:24: source.layer: found an unknown key, expected kind or layers (did you mean 'layers'?)",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: [{kind: yaml, path: y, pth: x}]}"),
            "3:55: source.layers[0].pth: found an unknown key",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: [{kind: layers}]}"),
            "3:33: source.layers[0].kind: found 'layers', expected a source that is no list of layers itself",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: layers, layers: [{kind: yml, path: x}]}"),
            "3:40: source.layers[0].kind: found 'yml', expected one of env, growthbook, ",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: growthbook}"),
            "3:9: source.client_key: found no such key, expected either client_key, or client with the application's",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", '{kind: growthbook, client_key: x, api_host: "cdn:80"}'),
            "3:53: source.api_host: found cdn:80, expected a URL like https://cdn.growthbook.io",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: launchdarkly, client: ldclient}"),
            "3:38: source.client: found 'ldclient', expected an object of the application's, as package.module:name",
        ),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", "{kind: launchdarkly, sdk_key: x, context_kind: kind}"),
            "3:56: source.context_kind: found 'kind', expected a context kind of letters",
        ),
        (
            WHOLE + "polcy: {}",
            "6:1: polcy: found an unknown key, expected one of application, backend, disabled, enabled, instance, ",
        ),
        (WHOLE + "policy: {colldown: 1s}", "6:10: policy.colldown: found an unknown key"),
        (
            WHOLE.replace("path:", "pth: x, path:"),
            "3:22: source.pth: found an unknown key, expected one of kind, max_age, optional, path, ",
        ),
        (WHOLE.replace("pyroscope}", "pyroscope, server_adress: x}"), "(did you mean 'server_address'?)"),
        (WHOLE.replace("pyroscope}", "pyroscope, auth_tokn_file: x}"), "(did you mean 'auth_token_file'?)"),
        (
            WHOLE + "settings: {sampel_rate: {}}",
            "6:12: settings.sampel_rate: found an unknown setting, expected one that pyroscope has: sample_rate, ",
        ),
        (
            WHOLE + "settings: {mode: {flg: x}}",
            "6:19: settings.mode.flg: found an unknown key, expected one of clamp, default, flag (did you mean ",
        ),
        (WHOLE + "settings: {mode: {clamp: {mim: 1}}}", "settings.mode.clamp.mim: found an unknown key"),
        (
            WHOLE + "settings: {enabled: {flag: x}}",
            "6:12: settings.enabled: found a reserved name, expected the switch under the top-level key 'enabled'",
        ),
        (WHOLE + "settings: [a]", "6:11: settings: found a list, expected a mapping"),
        (WHOLE.replace("version: 1\n", ""), "1:1: version: found no such key, expected this key, it is required"),
        (WHOLE.replace("version: 1", "version: 2"), "1:10: version: found '2', expected one of 1"),
        (WHOLE.replace("version: 1", "version: 1.0"), "1:10: version: found '1.0', expected one of 1"),
        (WHOLE.replace(ENABLED, ""), "1:1: enabled: found no such key, expected this key, it is required"),
        (WHOLE.replace(ENABLED, "enabled:\n"), "5:9: enabled"),
        (WHOLE.replace("flag: on", "flag: ''"), "5:10: enabled.flag: found an empty name, expected the name of a flag"),
        (
            WHOLE.replace("{kind: yaml, path: flags.yaml}", ""),
            f"3:8: source: found nothing, expected a mapping with a kind: one of {SOURCE_KINDS}, or ",
        ),
        (
            WHOLE.replace("kind: yaml, ", ""),
            f"3:9: source.kind: found no kind, expected one of {SOURCE_KINDS}, or package.module:Class",
        ),
        (
            WHOLE.replace("kind: yaml", "kind: ''"),
            f"3:16: source.kind: found '', expected one of {SOURCE_KINDS}, or ",
        ),
        (
            WHOLE.replace(", path: flags.yaml", ""),
            "3:9: source.path: found no such key, expected this key, it is required",
        ),
        (WHOLE.replace("flags.yaml", "''"), "3:28: source.path: found '', expected "),
        (WHOLE.replace("flags.yaml", '"a\\0b"'), "3:28: source.path: found 'a\\\\x00b', expected "),
        (WHOLE.replace("checkout", "''"), "2:14: application: found '', expected the name of the application"),
        (WHOLE.replace("checkout", "{a: b}"), "2:14: application: found a mapping, expected a text"),
        (WHOLE + "policy: {kill_switch: ''}", "6:23: policy.kill_switch: found '', expected "),
        (WHOLE + "policy: {resync: 500ms}", "6:18: policy.resync: found '500ms', expected at least 1s"),
        (
            WHOLE + "policy: {backoff: {initial: 10m}}",
            "policy.backoff.max: found no such key, expected at least initial (600 s)",
        ),
        (
            WHOLE.replace("flags.yaml", "flags.yaml, poll_interval: 1ms"),
            "source.poll_interval: found '1ms', expected at least 10ms",
        ),
    ],
)
def test_each_mistake_is_one_error_at_its_place(problems: Problems, document: str, expected: str) -> None:
    """Unknown, missing, misspelt and impossible keys and values are told once, with what was expected."""
    [problem] = problems(document)
    assert expected in problem


def test_an_empty_application_is_told_once(problems: Problems) -> None:
    """Nothing at all is one mistake, not two."""
    assert 1 == len(problems(WHOLE.replace(" checkout", "")))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "sample_rate: {clamp: {min: 0}}",
            "sample_rate.clamp.min: found '0', expected a bound within min 1 (hard limit of ",
        ),
        (
            "sample_rate: {clamp: {max: 1001}}",
            "sample_rate.clamp.max: found '1001', expected a bound within max 1000 (hard ",
        ),
        (
            "sample_rate: {clamp: {choices: [10, 2000]}, default: 10}",
            "expected choices within max 1000 (hard limit of ",
        ),
        ("mode: {clamp: {choices: [gil, walls]}}", "expected choices within choices gil, cpu, wall (hard limit of "),
        ("sample_rate: {clamp: {min: 50, max: 20}, default: 30}", "clamp.min: found '50', expected at most max (20)"),
        ("sample_rate: {clamp: {min: 1.5}}", "clamp.min: found '1.5', expected a whole number"),
        ("sample_rate: {clamp: {min: true}}", "clamp.min: found 'true', expected a whole number"),
        ("sample_rate: {clamp: {min: 1e1}}", "clamp.min: found '1e1', expected a whole number"),
        (
            "mode: {clamp: {max: 3}}",
            "mode.clamp.max: found a bound, expected no bound, because this setting is not a number",
        ),
        ("mode: {clamp: {choices: gil}}", "mode.clamp.choices: found 'gil', expected a list"),
        ("sample_rate: {clamp: {choices: [ten]}}", "clamp.choices[0]: found 'ten', expected a whole number"),
        ("sample_rate: {clamp: {choices: []}}", "sample_rate.clamp.choices: found "),
        (
            "sample_rate: {default: 300, clamp: {max: 250}}",
            "default: found 300, expected a default within max 250 (clamp)",
        ),
        ("sample_rate: {clamp: {min: 50}}", "default: found 20, expected a default within min 50 (clamp)"),
        (
            "sample_rate: {default: 5000}",
            "default: found 5000, expected a default within max 1000 (hard limit of pyroscope)",
        ),
        ("sample_rate: 0", "found 0, expected a default within min 1 (hard limit of pyroscope)"),
        ("sample_rate: {default: fast}", "sample_rate.default: found 'fast', expected a whole number"),
        ("sample_rate: 9.5", "settings.sample_rate: found '9.5', expected a whole number"),
        ("mode: [gil]", "settings.mode: found a list, expected a text"),
        (
            "mode: {default: wall, clamp: {choices: [gil]}}",
            "default: found 'wall', expected a default within choices gil ",
        ),
        ("mem_enabled: {default: 1}", "mem_enabled.default: found '1', expected true or false"),
        ("mode: {flag: [a]}", "mode.flag: found a list, expected a text"),
        ("sample_rate: {default: " + "9" * 5000 + "}", "sample_rate.default: found "),
    ],
)
def test_a_clamp_narrows_and_a_default_fits(problems: Problems, setting: str, expected: str) -> None:
    """No clamp is wider than the backend's hard limit, and no default, given or inherited, is outside of either."""
    [problem] = problems(WHOLE + f"settings: {{{setting}}}")
    assert expected in problem
    assert len(problem) < 400


def test_one_flag_is_not_read_as_two_types(problems: Problems) -> None:
    """The setting that comes second is blamed, at its own place."""
    document = WHOLE + "settings:\n  sample_rate: {flag: rate}\n  upload_interval: {flag: rate}\n  mode: {flag: rate}\n"
    [problem] = problems(document)
    assert problem.startswith("9:")
    assert "found flag 'rate' for mode, already used for sample_rate" in problem


# Variables


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${A}", "apple"),
        ("x${A}y${B}z", "xappleybreadz"),
        ("${UNSET:-none}", "none"),
        ("${EMPTY:-none}", "none"),
        ("x${UNSET:-}", "x"),
        ("${A:-none}", "apple"),
        ("'${UNSET:-a b: c}'", "a b: c"),
        ("$${A}", "${A}"),
        ("$A", "$A"),
        ("a$", "a$"),
        ("${REFERENCE}", "${A}"),
    ],
)
def test_variables_are_replaced_once(load: Load, written: str, expected: str) -> None:
    """From the environment, with a default where it is unset or empty; what was put in is not looked at again."""
    env = {"A": "apple", "B": "bread", "EMPTY": "", "REFERENCE": "${A}"}
    assert expected == load(WHOLE.replace("checkout", written), env=env).application


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "${PROFILNG_APP}",
            "the unset variable PROFILNG_APP, expected it set in the environment, or a default: ${PROFILNG_APP:-…} (",
        ),
        ("${A", "found '${' without a variable, expected ${NAME}, ${NAME:-default} or $${"),
        ("'${}'", "found '${' without a variable"),
        ("'${1A}'", "found '${' without a variable"),
        ("'${A-b}'", "found '${' without a variable"),
        ("'${A:-${B}}'", "found '${' without a variable"),
    ],
)
def test_a_variable_that_is_not_there_is_an_error(problems: Problems, written: str, expected: str) -> None:
    """Unset, unclosed, misnamed or nested: nothing is replaced by nothing without a word."""
    document = WHOLE.replace("checkout", written)
    found = problems(document, env={"PROFILING_APP": "x", "A": "a", "B": "b"})
    assert found[0].startswith("2:14: application: ")
    assert expected in found[0]


QUOTES = '(put the text with ${…} in quotes: "${…}")'


@pytest.mark.parametrize(
    "written",
    [
        "tags: {a: ${A}}",
        "tags: {a: Bearer ${A}, b: c}",
        "tags: {a: $${A}}",
        "tags: {${A}: a}",
        "tags: {a: [b, ${A}]}",
        "tags: [${A}]",
        "tags:\n  {a: b,\n   c: ${A:-d}}",
        "tags: {a: 'b', c: ${A}",
        "instance: ${A}: b",
        "instance: ${A:-b: c}",
        "instance: 'Bearer '${A}",
        "instance: @${A}",
        "instance: *${A}",
        "instance: !${A}",
        "instance: |${A}",
    ],
)
def test_a_variable_that_needs_quotes_is_told_so(problems: Problems, written: str) -> None:
    """In a list or mapping on one line, and beside what is YAML's own, it breaks the syntax: the error says so."""
    [found] = problems(WHOLE + written + "\n", env={"A": "hunter22"})
    assert "a syntax error" in found
    assert found.endswith(QUOTES)
    assert "hunter22" not in found


@pytest.mark.parametrize(
    "written",
    ['instance: "${A}": b', "instance: '${A}' b", "instance: a: b", "instance: [a # ${A}\n", 'tags: {a: "\\"${A}"'],
)
def test_a_syntax_error_beside_a_variable_in_quotes_has_another_cause(problems: Problems, written: str) -> None:
    """There is nothing to say of quotes where they are."""
    [found] = problems(WHOLE + written + "\n", env={"A": "a"})
    assert "a syntax error" in found
    assert "quotes" not in found


def test_a_default_that_a_comment_cuts_off_is_told_so(problems: Problems) -> None:
    """To YAML a number sign after a space begins a comment, in the midst of a variable too."""
    hint = "(' #' begins a comment: put the text in quotes if it has one)"
    assert [True, False] == [
        problems(WHOLE.replace("checkout", written), env={})[0].endswith(hint)
        for written in ("${A:-build #7}", "${A-build}")
    ]


def test_a_plain_scalar_is_typed_after_its_variables_are_replaced(load: Load) -> None:
    """A number or nothing may come from the environment; between quotes it stays a text, which may be a number's."""
    settings = "settings:\n  sample_rate: ${RATE}\n  upload_interval: '${RATE}'\n"
    config = load(WHOLE + settings + "policy:\n  kill_switch: ${NONE:-}\n", env={"RATE": "50"})
    assert [50, 50] == [each.default for each in config.wire().rules.settings]
    assert config.policy.kill_switch is None


def test_the_environment_of_the_process_is_the_default(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another environment the process's own is used."""
    monkeypatch.setenv("RHEOSTAT_TEST_APPLICATION", "shop")
    assert "shop" == load(WHOLE.replace("checkout", "${RHEOSTAT_TEST_APPLICATION}"), env=None).application


# Secrets in files


@pytest.mark.parametrize(
    ("content", "expected"), [(b"s3cret", "s3cret"), (b"s3cret\r\n", "s3cret"), (b" s3 cret \n\n", " s3 cret ")]
)
def test_a_secret_may_be_in_a_file_beside_the_configuration(
    load: Load, tmp_path: Path, content: bytes, expected: str
) -> None:
    """Each secret field has a twin that names a file, whose line end does not belong to the secret."""
    (tmp_path / "token").write_bytes(content)
    options = load(HEAD + ENABLED + "backend: {kind: pyroscope, auth_token_file: token}").wire().backend.options
    assert Secret(expected) == options.auth_token


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("auth_token_file: missing", "backend.auth_token_file: found 'missing', expected a readable text file"),
        ("auth_token_file: .", "backend.auth_token_file: found '.', expected a readable text file"),
        ("auth_token_file: binary", "backend.auth_token_file: found 'binary', expected a readable text file"),
        ("auth_token_file: pipe", "backend.auth_token_file: found 'pipe', expected a readable text file"),
        ('auth_token_file: "a\\0b"', "backend.auth_token_file: found 'a\\\\x00b', expected "),
        ("auth_token_file: ", "backend.auth_token_file: found nothing, expected a value"),
        (
            "auth_token: x, auth_token_file: token",
            "backend.auth_token_file: found both, expected either auth_token or ",
        ),
        ("basic_auth_password_file: token", "backend.basic_auth_password_file: found "),
        ("server_address_file: binary", "backend.server_address_file: found 'binary', expected a readable text file"),
        ("server_address_file: address", "backend.server_address_file: found "),
        ("tenant_id_file: token", "backend.tenant_id_file: found an unknown key"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_an_error_of_its_key(
    problems: Problems, tmp_path: Path, options: str, expected: str
) -> None:
    """Missing, unreadable, twice, or with a content that makes no sense: the key to blame is the one in the file."""
    (tmp_path / "token").write_text("hunter22")
    (tmp_path / "address").write_text("u:hunter22@localhost")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    [problem] = problems(HEAD + ENABLED + f"backend: {{kind: pyroscope, {options}}}")
    assert expected in problem
    assert "hunter22" not in problem


# noop


def test_noop_takes_anything(load: Load) -> None:
    """Any option and any setting, typed by their defaults."""
    backend = "backend: {kind: noop, server_address: http://x, whatever: [1, {a: b}]}\n"
    settings = (
        "settings: {a: {flag: a}, b: {flag: b, default: 5}, c: 1.5, d: {flag: d, clamp: {min: 1, choices: [1, x]}}}"
    )
    wiring = load(HEAD + backend + ENABLED + settings).wire()
    assert {"server_address": "http://x", "whatever": [1, {"a": "b"}]} == wiring.backend.options
    assert [("a", None), ("b", int), ("c", float), ("d", None)] == [
        (each.name, each.kind) for each in wiring.rules.settings
    ]


@pytest.mark.parametrize(
    "settings",
    [
        "sample_rate: {flag: rate, default: 20, clamp: {min: 1, max: 250}}",
        "sample_rate: {flag: rate, default: '20', clamp: {min: 1, max: 250}}",
        "sample_rate: {flag: rate, default: 20.0, clamp: {choices: [10, '20']}}",
        "sample_rate: {flag: rate, clamp: {max: 250}}",
        "upload_interval: {flag: seconds, default: 10}, mem_max_nframe: {flag: seconds}",
        "mem_enabled: {flag: memory, default: off, clamp: {choices: [on, off], otherwise: hold}}",
        "mode: wall",
    ],
)
def test_swapping_noop_in_is_one_word(load: Load, settings: str) -> None:
    """Whatever is a valid configuration for a profiler is one for noop."""
    document = WHOLE + f"settings: {{{settings}}}"
    assert load(document)
    assert load(document.replace("kind: pyroscope", "kind: noop"))


# Strangers' plug-ins

THIRD_PARTY = """
    from dataclasses import dataclass
    from rheostat.plugins import Duration, InvalidOptions, Parameter, Secret

    @dataclass(frozen=True, kw_only=True)
    class Options:
        port: int
        every: Duration = Duration(1.0)
        token: Secret | None = None
        names: tuple[str, ...] = ()

        def __post_init__(self):
            if self.port < 1:
                raise InvalidOptions({"port": "1 to 65535", "token": "a token for that port"})
            if self.port > 65535:
                raise ValueError("no such port")

    class Profiler:
        Options = Options
        parameters = {"depth": Parameter(int, 5, min=1, max=9), "label": Parameter(str, "")}
        def __init__(self, options, identity): ...
        def start(self, settings): ...
        def stop(self): ...
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module with a backend, and gives its kind."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(source: str) -> str:
        name = f"third_party_{len(names)}"
        names.append(name)
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return f"{name}:Profiler"

    return write


def test_a_third_party_class_is_imported_only_when_it_is_wired(load: Load, third_party: Callable[[str], str]) -> None:
    """Reading the file runs nobody's code; wiring decodes the options and checks the settings."""
    kind = third_party(THIRD_PARTY)
    document = (
        HEAD
        + ENABLED
        + f"backend: {{kind: '{kind}', port: 1, token: hunter22, names: [a, 5]}}\nsettings: {{depth: 7, label: off}}"
    )
    config = load(document)
    assert kind.partition(":")[0] not in sys.modules
    assert config.sections.backend is not None
    assert not config.sections.backend.is_builtin
    wiring = config.wire()
    assert (1, ("a", "5"), Secret("hunter22")) == (
        wiring.backend.options.port,
        wiring.backend.options.names,
        wiring.backend.options.token,
    )
    assert "hunter22" in config.secrets
    depth, label = wiring.rules.settings
    assert (7, Limits(f"hard limit of {kind}", 1, 9)) == (depth.default, depth.limits[1])
    assert "off" == label.default


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ("", "", ["backend.port: found no such key"]),
        (
            ", port: 0",
            "",
            ["backend.token: found no such key, expected a token ", "backend.port: found '0', expected 1 to 65535"],
        ),
        (", port: 99999", "", ["expected options that Options accepts: no such port"]),
        (
            ", port: x, prot: 1",
            "depth: 10",
            ["backend.port: found 'x'", "backend.prot: found", "settings.depth"],
        ),
        (", port: 1", "deth: 1", ["settings.deth: found an unknown setting"]),
    ],
)
def test_third_party_options_are_checked_like_ours(
    problems: Problems, third_party: Callable[[str], str], options: str, settings: str, expected: list[str]
) -> None:
    """Options and settings are decoded in one go, with places and hints."""
    document = HEAD + ENABLED + f"backend: {{kind: '{third_party(THIRD_PARTY)}'{options}}}\nsettings: {{{settings}}}"
    found = problems(document, third_party=True)
    assert len(expected) == len(found)
    assert all(part in problem for part, problem in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    "source",
    [
        THIRD_PARTY.replace("    @dataclass(frozen=True, kw_only=True)\n", ""),
        THIRD_PARTY.replace("        Options = Options\n", "        Options = 5\n"),
        THIRD_PARTY.replace("port: int", "port: complex"),
        THIRD_PARTY.replace("port: int", "port: 'Unknown'"),
        THIRD_PARTY.replace("if self.port < 1:", "{}[self.port]\n            if 0:"),
        THIRD_PARTY.replace('"depth": Parameter(int, 5, min=1, max=9)', '"depth": 5'),
        "raise SystemExit",
    ],
)
def test_a_third_party_class_that_breaks_the_contract_is_an_error_of_its_section(
    problems: Problems, third_party: Callable[[str], str], source: str
) -> None:
    """Whatever a third-party class is or raises, `check` says so at the section, not with a traceback."""
    document = HEAD + ENABLED + f"backend: {{kind: '{third_party(source)}', port: 1}}\nsettings: {{depth: 7}}\n"
    found = problems(document, third_party=True)
    assert any(": backend" in each or ": settings" in each for each in found)


FORGOING = """
    from rheostat.plugins import Parameter

    class Profiler:
        Options = dict
        parameters = {"depth": Parameter(int, 5)}
        without_effect = {"sample_rate": "it has a rate of its own", "mode": "it has one", "depth": "is not so"}
        def __init__(self, options, identity): ...
        def start(self, settings): ...
        def stop(self): ...
"""


def test_settings_that_a_backend_cannot_honour_are_no_part_of_the_rules(
    load: Load, third_party: Callable[[str], str]
) -> None:
    """What is configured of them has a reason, and its flag is not read: nothing is started anew for it."""
    settings = "settings: {sample_rate: {flag: rate, default: 20, clamp: {max: 250}}, depth: {flag: depth}}"
    rules = load(HEAD + ENABLED + f"backend: {{kind: '{third_party(FORGOING)}'}}\n{settings}").wire().rules
    assert {"sample_rate": "it has a rate of its own"} == rules.without_effect
    assert ["depth"] == [each.name for each in rules.settings]
    assert {"on", "depth"} == set(rules.wanted)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sample_rate: {flga: rate}", "settings.sample_rate.flga: found an unknown key"),
        ("sample_rat: 5", "settings.sample_rat: found an unknown setting"),
    ],
)
def test_mistakes_in_them_are_told(load: Load, third_party: Callable[[str], str], setting: str, expected: str) -> None:
    """A configuration that is wrong with one backend is not right with another."""
    document = HEAD + ENABLED + f"backend: {{kind: '{third_party(FORGOING)}'}}\nsettings: {{{setting}}}"
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load(document).wire()


def test_an_unknown_kind_is_told_where_it_stands(problems: Problems) -> None:
    """With the kinds there are, and the nearest."""
    [problem] = problems(WHOLE.replace("kind: pyroscope", "kind: pyroscop"), third_party=True)
    assert (
        "4:17: backend.kind: found 'pyroscop', expected one of datadog, files, noop, otlp, pyroscope, sentry, or "
        "package.module:Class "
        "(did you mean 'pyroscope'?)"
    ) == problem


# Files that were made to be slow, or that hold a secret in the wrong place


def test_a_hundred_errors_are_enough(problems: Problems) -> None:
    """Whoever has more has the wrong file."""
    wrong = "".join(f"key_{number}: 1\n" for number in range(3000))
    assert 100 == len(problems(WHOLE + wrong))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (f"tags: {{a: [{'1,' * 11_000}]}}\n", "found more than 10000 keys and values, expected fewer"),
        (f"tags: {{a: '{'${LONG}' * 30}'}}\n", "found variables of more than 256 KiB together, expected shorter ones"),
    ],
)
def test_a_document_that_would_take_long_is_refused(problems: Problems, more: str, expected: str) -> None:
    """With its place, as any other error."""
    assert any(expected in each for each in problems(WHOLE + more, env={"LONG": "x" * 10_000}))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (WHOLE.replace("pyroscope", "x." * 1000 + "x:y"), "backend.kind: found 'x.x."),
        (
            HEAD.replace("kind: yaml", "kind: layers, layers: [" + "{kind: zaml}," * 11 + "]") + BACKEND + ENABLED,
            "found 11",
        ),
    ],
)
def test_a_name_or_a_list_beyond_measure_is_refused(problems: Problems, document: str, expected: str) -> None:
    """Neither is looked up."""
    assert any(expected in each for each in problems(document)), problems(document)


@pytest.mark.parametrize(
    "section",
    ["{kind: pyroscope, auth_token:s3cret}", '{kind: pyroscope, http_headers: {Authorization:"Bearer s3cret"}}'],
)
def test_a_value_that_became_part_of_its_key_is_not_shown(problems: Problems, section: str) -> None:
    """Where the space after the colon was forgotten; the error says so."""
    said = problems(WHOLE.replace("{kind: pyroscope}", section))
    assert "s3cret" not in str(said)
    assert said


def test_a_file_that_is_a_secret_is_not_shown(problems: Problems) -> None:
    """The file of a token, named by mistake."""
    assert ["1:1: found a text, expected a mapping"] == problems("s3cret")


# What shares profiling out


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("rollout: {percent: 101}", "policy.rollout.percent: found 101.0, expected a default within max 100.0"),
        ("rollout: {percent: -1}", "policy.rollout.percent: found -1.0, expected a default within min 0.0"),
        ("rollout: {percent: ten}", "policy.rollout.percent: found 'ten', expected a number"),
        ("rollout: {by: pod}", "policy.rollout.by: found 'pod', expected one of instance"),
        ("duty_cycle: {on: 20m, every: 10m}", "policy.duty_cycle.on: found '20m', expected more than 0 s, and at most"),
        ("duty_cycle: {on: 5s}", "policy.duty_cycle.on: found '5s', expected more than 0 s, and at most every (0 s)"),
        ("budget: {cpu: 101%}", "policy.budget.cpu: found 101.0, expected a default within max 100.0"),
        ("budget: {cpu: much}", "policy.budget.cpu: found 'much', expected a number of percent, like 2 or 2%"),
        ("budget: {burst: 0s}", "policy.budget.burst: found 0.0, expected a default within min 1.0"),
        ("budget: {rss: 5 apples}", "policy.budget.rss: found '5 apples', expected a size like 512KiB"),
        ("budget: {rss: 1.5B}", "policy.budget.rss: found '1.5B', expected a size"),
        ("budget: {action: halt}", "policy.budget.action: found 'halt', expected one of reduce, stop"),
        ("session: {max: -1}", "policy.session.max: found -1.0, expected a default within min 0.0"),
        ("session: {max: long}", "policy.session.max: found 'long', expected a duration like 90s or 15m, or seconds"),
        ("per_host: {max: 1.5}", "policy.per_host.max: found '1.5', expected a whole number"),
        ("per_host: {max: -1}", "policy.per_host.max: found -1, expected a default within min 0"),
        ("per_host: {turn: 0s}", "policy.per_host.turn: found 0.0, expected a default within min 1.0"),
        ('per_host: {dir: ""}', "policy.per_host.dir: found '', expected the path of a file"),
        ("crash_guard: {times: 51}", "policy.crash_guard.times: found 51, expected a default within max 50"),
        ("crash_guard: {within: 0s}", "policy.crash_guard.within: found 0.0, expected a default within min 1.0"),
        ("rollout: {percent: {flag: on}}", "found flag 'on' for rollout.percent, already used for enabled"),
        ("rollout: {percent: {flag: p, clamp: {max: 200}}}", "found '200', expected a bound within max 100.0"),
        ("rollout: {percentage: 10}", "an unknown key, expected one of by, percent, salt (did you mean 'percent'?)"),
    ],
)
def test_what_a_brake_cannot_use_is_said(problems: Problems, policy: str, expected: str) -> None:
    [problem] = problems(f"{WHOLE}policy: {{{policy}}}\n")
    assert expected in problem


@pytest.mark.parametrize(
    ("written", "size"), [("50MiB", 50 * 2**20), ("1.5 GiB", 3 * 2**29), ("10MB", 10**7), ("512", 512), ("7B", 7)]
)
def test_a_size_may_have_a_unit(load: Load, written: str, size: int) -> None:
    assert size == load(f"{WHOLE}policy: {{budget: {{rss: {written}}}}}\n").policy.budget.rss.default


@pytest.mark.parametrize(("written", "size"), [("50MiB", 50 * 2**20), ("2097152", 2**21), ("' 3 MB '", 3_000_000)])
def test_so_may_an_option(load: Load, written: str, size: int) -> None:
    backend = f"backend: {{kind: files, folder: profiles, max_total_size: {written}}}\n"
    assert size == load(HEAD + ENABLED + backend).wire().backend.options.max_total_size


@pytest.mark.parametrize("written", ["much", "5XB", "1.5", "[1]", "-1MiB"])
def test_what_is_no_size_is_told_with_examples(problems: Problems, written: str) -> None:
    [problem] = problems(HEAD + ENABLED + f"backend: {{kind: files, folder: profiles, max_total_size: {written}}}\n")
    assert re.search("backend.max_total_size: found .*, expected (a size like 512KiB|1MiB or more|a value)", problem)
