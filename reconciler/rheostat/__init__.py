"""Turn a continuous profiler on, off, up and down in a running process, from the feature flags you already have.

import rheostat

rheostat.start("config.yaml")

PYTEST_DONT_REWRITE: pytest warns of a distribution's package that is imported before it can be rewritten.
"""

TYPE_CHECKING = False  # Type checkers take it for that of typing, whose import costs more than all of this.

if TYPE_CHECKING:
    from rheostat._config.problem import ConfigError, Place, Problem
    from rheostat._contract.backend import Health
    from rheostat._contract.values import Value
    from rheostat._core.desired import Adjustment, Desired
    from rheostat._core.state import State, Trigger
    from rheostat._core.transition import Cause, Observer, Transition
    from rheostat._lifecycle.reconciler import Reconciler
    from rheostat._lifecycle.start import AlreadyRunning, start
    from rheostat._report.event import Event, Listener
    from rheostat._report.status import Operation, SourceStatus, Status

__version__ = "0.1.0"

__all__ = [
    "Adjustment",
    "AlreadyRunning",
    "Cause",
    "ConfigError",
    "Desired",
    "Event",
    "Health",
    "Listener",
    "Observer",
    "Operation",
    "Place",
    "Problem",
    "Reconciler",
    "SourceStatus",
    "State",
    "Status",
    "Transition",
    "Trigger",
    "Value",
    "start",
]

_MODULES = {
    "_config.problem": ["ConfigError", "Place", "Problem"],
    "_contract.backend": ["Health"],
    "_contract.values": ["Value"],
    "_core.desired": ["Adjustment", "Desired"],
    "_core.state": ["State", "Trigger"],
    "_core.transition": ["Cause", "Observer", "Transition"],
    "_lifecycle.reconciler": ["Reconciler"],
    "_lifecycle.start": ["AlreadyRunning", "start"],
    "_report.event": ["Event", "Listener"],
    "_report.status": ["Operation", "SourceStatus", "Status"],
}  # fmt: skip

# Nothing is imported before it is asked for. Whoever imports a submodule holds its lock while this package is imported:
# if this needed that submodule, two threads would wait for each other, and one of them get a module that is half made.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name == "plugins":
            from importlib import import_module

            return import_module(f"{__name__}.plugins")
        return _resolve(globals(), _MODULES, name)

    def __dir__():
        return sorted({*globals(), *__all__})


def _resolve(namespace: dict[str, object], modules: dict[str, list[str]], name: str) -> object:
    """A public name of the package or of `rheostat.plugins`, whose `modules` say where it is; kept in `namespace`."""
    import sys
    from importlib import import_module

    module = next((f"{__name__}.{module}" for module, names in modules.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
    if module not in sys.modules:
        from rheostat._host.execution import current

        def load() -> None:
            from rheostat._host.importing import import_apart

            # The control thread may be the first to ask, and a child not inherit what is half imported.
            import_apart(module)

        current().apart(load)
    namespace[name] = found = getattr(import_module(module), name)
    return found
