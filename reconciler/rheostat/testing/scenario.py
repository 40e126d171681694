"""A deployment in plain data: what a configuration declares, without the code that reads it."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from rheostat import Value

from .faulty_backend import FaultyBackend

Otherwise = Literal["default", "hold", "off"]

SWITCH: Final = "enabled"


class Bounds(NamedTuple):
    """Limits that a value keeps."""

    min: int | float | None = None
    max: int | float | None = None
    choices: tuple[Value, ...] | None = None


class Declared(NamedTuple):
    """A setting, its flag, and what bounds it: the clamp, then the backend's hard limits."""

    name: str
    kind: type
    default: Value
    flag: str
    limits: tuple[Bounds, ...] = ()
    otherwise: Otherwise = "default"


class Scenario(NamedTuple):
    """A configuration. Durations are seconds; `probes` says whether the backend can tell that it samples."""

    switch: Declared
    settings: tuple[Declared, ...] = ()
    probes: bool = False
    resync: float = 30.0
    lease: float = 60.0
    start_deadline: float = 10.0
    stop_deadline: float = 10.0
    backoff: float = 1.0
    backoff_max: float = 30.0
    cooldown: float = 5.0
    splay: float = 0.0
    instance: str = "host-1"
    kill_switch: str | None = "off"
    session: float = 0.0
    """The longest that one lasts; 0: for ever."""
    rollout: float = 100.0
    """Percent of the fleet."""
    turn: tuple[float, float] | None = None
    """On for so long, of every so long."""
    budget: float = 0.0
    """Percent of a core; 0: no budget."""
    burst: float = 10.0

    @property
    def moves_by_itself(self) -> bool:
        """Time alone may turn it on or off."""
        return bool(self.session or self.turn or self.budget)

    @property
    def flags(self) -> tuple[Declared, ...]:
        return (self.switch, *self.settings)

    def yaml(self, kinds: Mapping[str, str] = MappingProxyType({})) -> str:
        """The configuration as a file has it: YAML, of which JSON is a part; `kinds` are those of other plug-ins."""
        own = {"source": "ScriptedSource", "backend": "ProbedBackend" if self.probes else "FaultyBackend"}
        sections = {
            "version": 1,
            "application": "shop",
            "instance": self.instance,
            **{key: {"kind": kinds.get(key, f"rheostat.testing:{name}")} for key, name in own.items()},
            SWITCH: _section(self.switch),
            "settings": {each.name: _section(each) for each in self.settings},
            "policy": {
                "resync": self.resync,
                "hold_last_good": self.lease,
                "start_deadline": self.start_deadline,
                "stop_deadline": self.stop_deadline,
                "backoff": {"initial": self.backoff, "max": self.backoff_max},
                "cooldown": self.cooldown,
                "splay": self.splay,
                "kill_switch": self.kill_switch,
                **self._shared_out(),
            },
        }
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())

    def _shared_out(self) -> Mapping[str, Any]:
        turn = None if self.turn is None else {"on": self.turn[0], "every": self.turn[1]}
        return {
            "session": {"max": self.session},
            "rollout": {"percent": self.rollout},
            **({} if turn is None else {"duty_cycle": turn}),
            "budget": {"cpu": self.budget, "burst": self.burst},
        }


def hard_limits(name: str) -> Bounds:
    """Those of the backend."""
    parameter = (FaultyBackend.parameters or {})[name]
    return Bounds(parameter.min, parameter.max, parameter.choices)


def _section(declared: Declared) -> dict[str, Any]:
    clamp = declared.limits[0] if declared.limits else Bounds()
    given = {key: value for key, value in clamp._asdict().items() if value is not None}
    return {
        "flag": declared.flag,
        "default": declared.default,
        "clamp": {**given, "otherwise": declared.otherwise},
    }
