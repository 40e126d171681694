"""The names that flag sources and profiler backends are made of.

    from rheostat.plugins import FlagSource, Identity, Reading

An application needs none of them: those are in `rheostat`.
"""

TYPE_CHECKING = False  # As in the package: typing costs more than all of this.

if TYPE_CHECKING:
    from rheostat._config.flagfile import flag_names, parse_flags
    from rheostat._contract.backend import (
        Backend,
        BackendError,
        Estimating,
        Forgoing,
        Health,
        Parameter,
        PermanentError,
        Probing,
        Reachable,
        Remarking,
        TemporaryError,
    )
    from rheostat._contract.flagsource import FlagSource, KnowsFlags, NotReady, Reading, SourceUnavailable
    from rheostat._contract.hostobject import HostObject, is_inherited
    from rheostat._contract.identity import Identity
    from rheostat._contract.options import Duration, FilePath, InvalidOptions
    from rheostat._contract.secret import Secret, Url
    from rheostat._contract.text import causes_of
    from rheostat._contract.threaded_source import ThreadedSource
    from rheostat._contract.values import Bytes, Value
    from rheostat._host.execution import call_within, start_native
    from rheostat._host.fork_warnings import silence_on_fork
    from rheostat._host.forks import hold_off_forks
    from rheostat._host.loopback import Loopback, Upload
    from rheostat._host.native import green_threads
    from rheostat._host.pprof import parse_pprof
    from rheostat._host.profile_folder import ProfileFolder
    from rheostat._host.tasks import named_threads, task_ids, task_name, task_time_ns
    from rheostat._host.tls import tls_context
    from rheostat._host.vendor import import_vendor
    from rheostat._host.vendor_log import VendorLog
    from rheostat._report.sinks import plugin_log

__all__ = [
    "Backend",
    "BackendError",
    "Bytes",
    "Duration",
    "Estimating",
    "FilePath",
    "FlagSource",
    "Forgoing",
    "Health",
    "HostObject",
    "Identity",
    "InvalidOptions",
    "KnowsFlags",
    "Loopback",
    "NotReady",
    "Parameter",
    "PermanentError",
    "Probing",
    "ProfileFolder",
    "Reachable",
    "Reading",
    "Remarking",
    "Secret",
    "SourceUnavailable",
    "TemporaryError",
    "ThreadedSource",
    "Upload",
    "Url",
    "Value",
    "VendorLog",
    "call_within",
    "causes_of",
    "flag_names",
    "green_threads",
    "hold_off_forks",
    "import_vendor",
    "is_inherited",
    "named_threads",
    "parse_flags",
    "parse_pprof",
    "plugin_log",
    "silence_on_fork",
    "start_native",
    "task_ids",
    "task_name",
    "task_time_ns",
    "tls_context",
]

_MODULES = {
    "_config.flagfile": ["flag_names", "parse_flags"],
    "_contract.backend": [
        "Backend", "BackendError", "Estimating", "Forgoing", "Health", "Parameter", "PermanentError", "Probing",
        "Reachable", "Remarking", "TemporaryError",
    ],
    "_contract.flagsource": ["FlagSource", "KnowsFlags", "NotReady", "Reading", "SourceUnavailable"],
    "_contract.hostobject": ["HostObject", "is_inherited"],
    "_contract.identity": ["Identity"],
    "_contract.options": ["Duration", "FilePath", "InvalidOptions"],
    "_contract.secret": ["Secret", "Url"],
    "_contract.threaded_source": ["ThreadedSource"],
    "_contract.text": ["causes_of"],
    "_contract.values": ["Bytes", "Value"],
    "_host.execution": ["call_within", "start_native"],
    "_host.fork_warnings": ["silence_on_fork"],
    "_host.forks": ["hold_off_forks"],
    "_host.loopback": ["Loopback", "Upload"],
    "_host.native": ["green_threads"],
    "_host.pprof": ["parse_pprof"],
    "_host.profile_folder": ["ProfileFolder"],
    "_host.tasks": ["named_threads", "task_ids", "task_name", "task_time_ns"],
    "_host.tls": ["tls_context"],
    "_host.vendor": ["import_vendor"],
    "_host.vendor_log": ["VendorLog"],
    "_report.sinks": ["plugin_log"],
}  # fmt: skip

# Resolved on first use, as in the package, and for its reasons.
if not TYPE_CHECKING:

    def __getattr__(name):
        from rheostat import _resolve

        return _resolve(globals(), _MODULES, name)

    def __dir__():
        return sorted({*globals(), *__all__})
