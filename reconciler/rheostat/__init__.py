"""Turn a continuous profiler on, off, up and down in a running process, from the feature flags you already have.

import rheostat

rheostat.start("config.yaml")

PYTEST_DONT_REWRITE: pytest warns of a distribution's package that is imported before it can be rewritten.
"""

TYPE_CHECKING = False  # Type checkers take it for that of typing, whose import costs more than all of this.

if TYPE_CHECKING:
    from .backend import Backend, BackendError, Health, Parameter, PermanentError, Probing, Reachable, TemporaryError
    from .desired import Adjustment, Desired
    from .duration import Duration
    from .filepath import FilePath
    from .flagfile import flag_names, parse_flags
    from .flagsource import FlagSource, KnowsFlags, NotReady, Reading, SourceUnavailable
    from .forking import hold_off_forks
    from .forkwarnings import silence_on_fork
    from .hostobject import HostObject, is_inherited
    from .identity import Identity
    from .options import InvalidOptions
    from .problem import ConfigError, Place, Problem
    from .process import AlreadyRunning, start
    from .reconciler import Reconciler
    from .secret import Secret, Url
    from .state import State, Trigger
    from .status import Operation, SourceStatus, Status
    from .transition import Cause, Observer, Transition
    from .values import Value
    from .vendor import import_vendor
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

_MODULES = {
    "backend": [
        "Backend", "BackendError", "Health", "Parameter", "PermanentError", "Probing", "Reachable", "TemporaryError",
    ],
    "desired": ["Adjustment", "Desired"],
    "duration": ["Duration"],
    "filepath": ["FilePath"],
    "flagfile": ["flag_names", "parse_flags"],
    "flagsource": ["FlagSource", "KnowsFlags", "NotReady", "Reading", "SourceUnavailable"],
    "forking": ["hold_off_forks"],
    "forkwarnings": ["silence_on_fork"],
    "hostobject": ["HostObject", "is_inherited"],
    "identity": ["Identity"],
    "options": ["InvalidOptions"],
    "problem": ["ConfigError", "Place", "Problem"],
    "process": ["AlreadyRunning", "start"],
    "reconciler": ["Reconciler"],
    "secret": ["Secret", "Url"],
    "state": ["State", "Trigger"],
    "status": ["Operation", "SourceStatus", "Status"],
    "transition": ["Cause", "Observer", "Transition"],
    "values": ["Value"],
    "vendor": ["import_vendor"],
    "vendorlog": ["VendorLog"],
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
        from .importing import import_apart

        # The control thread may be the first to ask, and a child not inherit what is half imported.
        import_apart(module)
    globals()[name] = found = getattr(import_module(module), name)
    return found
