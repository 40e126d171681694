"""Turn a continuous profiler on, off, up and down in a running process, from the feature flags you already have.

import rheostat

rheostat.start("config.yaml")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backend import Backend, BackendError, Health, Parameter, PermanentError, Probing, Reachable, TemporaryError
from .desired import Adjustment, Desired
from .duration import Duration
from .filepath import FilePath
from .flagfile import flag_names, parse_flags
from .flagsource import FlagSource, KnowsFlags, NotReady, Reading, SourceUnavailable
from .forking import hold_off_forks
from .identity import Identity
from .machine import State, Trigger
from .options import InvalidOptions
from .problem import ConfigError, Place, Problem
from .process import AlreadyRunning, start
from .secret import Secret, Url
from .transition import Cause, Observer, Transition
from .values import Value
from .vendor import import_vendor

if TYPE_CHECKING:
    from .forkwarnings import silence_on_fork
    from .hostobject import HostObject, is_inherited
    from .reconciler import Reconciler
    from .status import Operation, SourceStatus, Status
    from .vendorlog import VendorLog

__version__ = "0.1.0"

__all__ = [
    "Adjustment",
    "AlreadyRunning",
    "Backend",
    "BackendError",
    "Cause",
    "ConfigError",
    "Desired",
    "Duration",
    "FilePath",
    "FlagSource",
    "Health",
    "HostObject",
    "Identity",
    "InvalidOptions",
    "KnowsFlags",
    "NotReady",
    "Observer",
    "Operation",
    "Parameter",
    "PermanentError",
    "Place",
    "Probing",
    "Problem",
    "Reachable",
    "Reading",
    "Reconciler",
    "Secret",
    "SourceStatus",
    "SourceUnavailable",
    "State",
    "Status",
    "TemporaryError",
    "Transition",
    "Trigger",
    "Url",
    "Value",
    "VendorLog",
    "flag_names",
    "hold_off_forks",
    "import_vendor",
    "is_inherited",
    "parse_flags",
    "silence_on_fork",
    "start",
]

# What only a running reconciler or a remote source needs: those who import Rheostat for its contract do not pay for it.
_LATER = {
    "HostObject": ".hostobject",
    "is_inherited": ".hostobject",
    "Operation": ".status",
    "Reconciler": ".reconciler",
    "SourceStatus": ".status",
    "Status": ".status",
    "VendorLog": ".vendorlog",
    "silence_on_fork": ".forkwarnings",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
