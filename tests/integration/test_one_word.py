"""One configuration of three flags drives each profiler: only the backend's section is another."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from rheostat._config.registry import BACKENDS
from support.children import RHEOSTAT, Child, ended

CONFIG = """\
version: 1
application: shop
source: {{kind: yaml, path: flags.yaml, poll_interval: 20ms}}
backend: {backend}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  sample_rate: {{flag: profiling_sample_rate, default: 20, clamp: {{min: 1, max: 250}}}}
  mode: {{flag: profiling_mode, default: gil, clamp: {{choices: [gil, cpu, wall], otherwise: default}}}}
policy: {{cooldown: 0s, start_after: 0s}}
"""

# Sentry's profiler is that of the application's own client.
APP = """\
import sys
import warnings

if sys.argv[1] == "sentry":
    warnings.simplefilter("ignore")
    import sentry_sdk
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1", profile_session_sample_rate=1.0, profile_lifecycle="manual",
        default_integrations=False, shutdown_timeout=0,
    )
sys.stdin.read()
"""

TAKES_RATE: Final = ("sample_rate", "mode")


class Case(NamedTuple):
    """A backend's section, and which of the two settings it honours."""

    section: str
    honours: tuple[str, ...] = TAKES_RATE


CASES: Final[Mapping[str, Case]] = {
    "pyroscope": Case("{kind: pyroscope, server_address: 'http://127.0.0.1:1'}"),
    "files": Case("{kind: files, folder: profiles}"),
    "otlp": Case("{kind: otlp, endpoint: 'http://127.0.0.1:1'}"),
    "datadog": Case("{kind: datadog, output: profiles}", ()),
    "sentry": Case("{kind: sentry}", ()),
    "noop": Case("{kind: noop}"),
}


def test_each_backend_is_among_them() -> None:
    assert {*BACKENDS.builtins} == {*CASES}


def flags(folder: Path, **said: object) -> None:
    lines = "".join(f"profiling_{name}: {value}\n" for name, value in said.items())
    (folder / "new").write_text(lines)
    os.replace(folder / "new", folder / "flags.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("kind", CASES)
def test_the_same_flags_turn_it_on_and_off(folder: Path, kind: str) -> None:
    """And up, where it has a rate; where it has none, nothing is started anew for it."""
    case = CASES[kind]
    (folder / "config.yaml").write_text(CONFIG.format(backend=case.section))
    flags(folder, enabled="true", sample_rate=9999)
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py", kind]
    with Child(command, folder, {"no_proxy": "127.0.0.1"}) as child:
        running = child.event("transition", to="running")
        assert {name: {"sample_rate": 250, "mode": "gil"}[name] for name in case.honours} == running["settings"]
        assert [each["setting"] for each in running["adjustments"]] == [
            name for name in case.honours if name == "sample_rate"
        ]
        flags(folder, enabled="true", sample_rate=50, mode="cpu")
        if case.honours:
            again = child.event("transition", to="running")
            assert {"sample_rate": 50, "mode": "cpu"} == again["settings"]
        flags(folder, enabled="false", sample_rate=50)
        child.event("transition", to="stopped")
        assert 0 == child.finish()
    triggers = [each["trigger"] for each in child.events() if each["event"] == "transition"]
    assert ["started", *(["retune", "started"] if case.honours else []), "stopped"] == triggers


@pytest.mark.parametrize("kind", CASES)
def test_plan_says_what_it_does_not_honour(folder: Path, kind: str) -> None:
    """Before anything is turned on; and the configuration is fine."""
    case = CASES[kind]
    (folder / "config.yaml").write_text(CONFIG.format(backend=case.section))
    flags(folder, enabled="true", sample_rate=50)
    env = {"no_proxy": "127.0.0.1"}
    assert 0 == ended([*RHEOSTAT, "check", "config.yaml"], folder, env).returncode
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], folder, env).stdout
    assert f"It would run {kind}: " in planned
    for name in TAKES_RATE:
        assert (name in case.honours) != (f"{name} has no effect: " in planned)
