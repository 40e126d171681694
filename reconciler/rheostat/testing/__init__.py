"""Rheostat's own means of testing, for those who write flag sources and backends of their own.

from rheostat.testing import FlagSourceContract

Needs ``pip install 'rheostat[testing]'``. Nothing here is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend_contract import BackendContract
    from .faulty_backend import FAULTS, BackendCall, Fault, FaultyBackend, ProbedBackend
    from .flagsource_contract import FlagSourceContract
    from .model import Model, World
    from .scenario import Bounds, Declared, Scenario
    from .scripted_source import ScriptedSource
    from .simulation import Log, LogLine, Simulation, Step
    from .statemachine import Profiling
    from .strategies import Raw, configs, flags_of, raw_values, rules, scenarios, schedules, usable_values
    from .virtual import VirtualClock

__all__ = [
    "FAULTS",
    "BackendCall",
    "BackendContract",
    "Bounds",
    "Declared",
    "Fault",
    "FaultyBackend",
    "FlagSourceContract",
    "Log",
    "LogLine",
    "Model",
    "ProbedBackend",
    "Profiling",
    "Raw",
    "Scenario",
    "ScriptedSource",
    "Simulation",
    "Step",
    "VirtualClock",
    "World",
    "configs",
    "flags_of",
    "raw_values",
    "rules",
    "scenarios",
    "schedules",
    "usable_values",
]

_MODULES = {
    "backend_contract": ["BackendContract"],
    "faulty_backend": ["FAULTS", "BackendCall", "Fault", "FaultyBackend", "ProbedBackend"],
    "flagsource_contract": ["FlagSourceContract"],
    "model": ["Model", "World"],
    "scenario": ["Bounds", "Declared", "Scenario"],
    "scripted_source": ["ScriptedSource"],
    "simulation": ["Log", "LogLine", "Simulation", "Step"],
    "statemachine": ["Profiling"],
    "strategies": [
        "Raw", "configs", "flags_of", "raw_values", "rules", "scenarios", "schedules", "usable_values",
    ],
    "virtual": ["VirtualClock"],
}  # fmt: skip
_WHERE = {name: f".{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name], __name__), name)
