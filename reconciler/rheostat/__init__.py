"""Turn a continuous profiler on, off, up and down in a running process, from the feature flags you already have.

import rheostat

rheostat.start("config.yaml")

PYTEST_DONT_REWRITE: pytest warns of a distribution's package that is imported before it can be rewritten.
"""

TYPE_CHECKING = False  # Type checkers take it for that of typing, whose import costs more than all of this.

if TYPE_CHECKING:
    from rheostat._config.flagfile import flag_names, parse_flags
    from rheostat._config.problem import ConfigError, Place, Problem
    from rheostat._contract.backend import (
        Backend,
        BackendError,
        Health,
        Parameter,
        PermanentError,
        Probing,
        Reachable,
        TemporaryError,
    )
    from rheostat._contract.flagsource import FlagSource, KnowsFlags, NotReady, Reading, SourceUnavailable
    from rheostat._contract.hostobject import HostObject, is_inherited
    from rheostat._contract.identity import Identity
    from rheostat._contract.options import Duration, FilePath, InvalidOptions
    from rheostat._contract.secret import Secret, Url
    from rheostat._contract.values import Value
    from rheostat._core.desired import Adjustment, Desired
    from rheostat._core.state import State, Trigger
    from rheostat._core.transition import Cause, Observer, Transition
    from rheostat._host.fork_warnings import silence_on_fork
    from rheostat._host.forks import hold_off_forks
    from rheostat._host.vendor import import_vendor
    from rheostat._host.vendor_log import VendorLog
    from rheostat._lifecycle.reconciler import Reconciler
    from rheostat._lifecycle.start import AlreadyRunning, start
    from rheostat._report.event import Event, Listener
    from rheostat._report.status import Operation, SourceStatus, Status

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
    "Event",
    "FilePath",
    "FlagSource",
    "Health",
    "HostObject",
    "Identity",
    "InvalidOptions",
    "KnowsFlags",
    "Listener",
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

_MODULES = {
    "_contract.backend": [
        "Backend", "BackendError", "Health", "Parameter", "PermanentError", "Probing", "Reachable", "TemporaryError",
    ],
    "_core.desired": ["Adjustment", "Desired"],
        "_config.flagfile": ["flag_names", "parse_flags"],
    "_contract.flagsource": ["FlagSource", "KnowsFlags", "NotReady", "Reading", "SourceUnavailable"],
    "_host.forks": ["hold_off_forks"],
    "_host.fork_warnings": ["silence_on_fork"],
    "_contract.hostobject": ["HostObject", "is_inherited"],
    "_contract.identity": ["Identity"],
    "_contract.options": ["Duration", "FilePath", "InvalidOptions"],
    "_config.problem": ["ConfigError", "Place", "Problem"],
    "_lifecycle.start": ["AlreadyRunning", "start"],
    "_lifecycle.reconciler": ["Reconciler"],
    "_contract.secret": ["Secret", "Url"],
    "_core.state": ["State", "Trigger"],
    "_report.event": ["Event", "Listener"],
    "_report.status": ["Operation", "SourceStatus", "Status"],
    "_core.transition": ["Cause", "Observer", "Transition"],
    "_contract.values": ["Value"],
    "_host.vendor": ["import_vendor"],
    "_host.vendor_log": ["VendorLog"],
}  # fmt: skip

# Nothing is imported before it is asked for. Whoever imports a submodule holds its lock while this package is imported:
# if this needed that submodule, two threads would wait for each other, and one of them get a module that is half made.
if not TYPE_CHECKING:

    def __getattr__(name):
        for module, names in _MODULES.items():
            if name in names:
                return _imported(f"{__name__}.{module}", name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


def _imported(module: str, name: str) -> object:
    import sys
    from importlib import import_module

    if module not in sys.modules:
        from rheostat._host.importing import import_apart

        # The control thread may be the first to ask, and a child not inherit what is half imported.
        import_apart(module)
    globals()[name] = found = getattr(import_module(module), name)
    return found
