"""Environment variables as flags."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from rheostat.plugins import Identity, InvalidOptions
from rheostat.testing import FlagSourceContract
from rheostat_flagsources.env import EnvOptions, EnvSource
from support.children import RHEOSTAT, Child, ended

IDENTITY = Identity("shop", "host-1", {}, 1)
WANTED: dict[str, type] = {"profiling.enabled": bool, "rate": int, "größe": int, "unset": str}

CONFIG = """\
version: 1
application: shop
source: {kind: layers, layers: [{kind: yaml, path: flags.yaml, optional: true}, {kind: env, prefix: SHOP_}]}
backend: {kind: noop}
enabled: {flag: profiling.enabled}
settings: {rate: {flag: rate, default: 20, clamp: {max: 250}}}
policy: {cooldown: 0s, start_after: 0s}
"""


class TestEnv(FlagSourceContract):
    """The contract of any source, as far as it is about one that never changes; a variable is a text."""

    is_constant = True
    says: ClassVar[tuple[type, ...]] = (str,)
    odd: ClassVar[Sequence[object]] = ("", "x" * 2000, "[1, 2]")

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.variables = monkeypatch

    def section(self) -> str:
        return "{kind: env, prefix: SHOP_}"

    def say(self, flags: Mapping[str, object]) -> None:
        for flag, value in flags.items():
            self.variables.setenv(f"SHOP_{flag.upper()}", str(value).lower() if type(value) is bool else str(value))


def test_a_flag_is_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In capitals, with underscores; the reason is the variable, and what is not set is not defined."""
    for name, text in {"SHOP_PROFILING_ENABLED": "true", "SHOP_RATE": " 97 ", "SHOP_GR_SSE": "5", "OTHER": "1"}.items():
        monkeypatch.setenv(name, text)
    source = EnvSource(EnvOptions(prefix="SHOP_"), IDENTITY)
    source.open(lambda: None)
    reading = source.read(WANTED)
    assert {"profiling.enabled": "true", "rate": " 97 ", "größe": "5"} == reading.values
    assert "SHOP_RATE" == reading.reasons["rate"]
    assert {"profiling_enabled", "rate", "gr_sse"} == set(source.known_flags())
    source.close()
    source.close()


def test_it_gives_the_same_reading_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at again: neither a change nor a poll is to be waited for."""
    monkeypatch.setenv("FLAG_RATE", "5")
    source = EnvSource(EnvOptions(), IDENTITY)
    first = source.read(WANTED)
    monkeypatch.setenv("FLAG_RATE", "6")
    assert first is source.read(WANTED)
    assert source.poll_interval is None


@pytest.mark.parametrize("prefix", ["", "1", "a-b", "é", "a b"])
def test_a_prefix_is_the_beginning_of_a_name(prefix: str) -> None:
    with pytest.raises(InvalidOptions, match="prefix"):
        EnvOptions(prefix=prefix)


def test_a_layer_above_overrides_it_in_a_real_process(tmp_path: Path) -> None:
    """The deployment says on; a file on the host says at what rate, and off."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "app.py").write_text("import sys; sys.stdin.read()\n")
    env = {"SHOP_PROFILING_ENABLED": "true", "SHOP_RATE": "9999"}
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], tmp_path, env)
    assert "It would run noop: rate=250" in planned.stdout
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(command, tmp_path, env) as child:
        assert {"rate": 250} == child.event("transition", to="running")["settings"]
        (tmp_path / "flags.yaml").write_text(json.dumps({"profiling.enabled": False}))
        child.event("transition", to="stopped")
        assert 0 == child.finish()
