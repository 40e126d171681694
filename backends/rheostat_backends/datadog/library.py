"""The package ``ddtrace``: imported without what that does to a process, and used as its version wants it."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from rheostat.plugins import PermanentError, TemporaryError, hold_off_forks, import_vendor

REQUIREMENT: Final = "rheostat[datadog]"
_PROFILER: Final = "ddtrace.profiling.profiler"
_SAMPLERS: Final = ("ddtrace.internal.datadog.profiling.stack", "ddtrace.internal.datadog.profiling.stack_v2")
_AS_FOR_A_PROFILER_ALONE: Final = {
    # It would report to the agent what is installed here, and put a hook in the place of sys.excepthook.
    b"DD_INSTRUMENTATION_TELEMETRY_ENABLED": b"false",
    # It would log to stderr, whatever the application does to its log.
    b"DD_TRACE_LOG_STREAM_HANDLER": b"false",
}
_PATIENCE: Final = 0.5
"""Seconds to wait for a lock of ddtrace's that is held for less than a millisecond."""
_PATCHED: Final = ("_set_native_id", "_bootstrap_inner")
_RUNS_ALREADY: Final = (
    "ddtrace's profiler runs already, started by ddtrace-run or by the application, and is left alone; expected a "
    "process without DD_PROFILING_ENABLED, in which nothing else starts it"
)


class Library:
    """The profiler of the installed version, and its settings."""

    def __init__(self) -> None:
        profiler = sys.modules[_PROFILER]
        self._profiler = profiler.Profiler
        self._instance = profiler._ProfilerInstance
        self._settings = profiler.profiling_config
        self.sampler: Any = next((sys.modules[each] for each in _SAMPLERS if each in sys.modules), None)
        self._thread_class = sys.modules["ddtrace.internal._unpatched"]._threading.Thread
        self._methods = {name: getattr(self._thread_class, name, None) for name in _PATCHED}

    def refuse_another(self) -> None:
        """There is one native half of it in a process. Raises TemporaryError: the other may be stopped some day."""
        if any(map(runs, self._others())):
            raise TemporaryError(_RUNS_ALREADY)

    def _others(self) -> Iterator[Any]:
        yield getattr(sys.modules.get("ddtrace.profiling.bootstrap"), "profiler", None)
        yield getattr(self._profiler, "_active_instance", None)
        # Earlier versions have no register of them, but each that runs has one of its methods here.
        for hook in getattr(sys.modules.get("ddtrace.internal.forksafe"), "_registry", ()):
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, self._profiler):
                yield owner

    def new(self, names: Mapping[str, Any], tuned: Mapping[str, Any], tracer: object, code_provenance: bool) -> Any:
        """A profiler that is not started."""
        with self._told(_told(tuned, code_provenance)):
            profiler = self._profiler(**names, tracer=tracer, **self._collectors(tuned))
        scheduler = profiler._profiler._scheduler
        if scheduler is None:
            raise PermanentError("ddtrace has no exporter of profiles here; expected one with its native libraries")
        # The default of its argument is what the settings were when it was imported.
        scheduler.interval = scheduler._configured_interval = float(tuned["upload_interval"])
        return profiler

    def _collectors(self, tuned: Mapping[str, Any]) -> dict[str, bool]:
        asked = {
            "_stack_collector_enabled": tuned["stack"],
            "_memory_collector_enabled": tuned["memory"],
            "_lock_collector_enabled": tuned["lock"],
            "_exception_profiling_enabled": tuned["exception"],
            "_pytorch_collector_enabled": False,
            # Counting what each endpoint of a service is asked for is the tracer's.
            "endpoint_collection_enabled": False,
        }
        known = self._instance.__init__.__code__.co_varnames
        return {name: value for name, value in asked.items() if name in known}

    def start(self, profiler: Any, tuned: Mapping[str, Any], code_provenance: bool) -> None:
        """Start it, without what it would do at exit and in forked children by itself."""
        # Earlier versions are told so.
        known = self._profiler.start.__code__.co_varnames
        apart = {name: False for name in ("stop_on_exit", "profile_children") if name in known}
        with self._told(_told(tuned, code_provenance)), _steady_threads():
            profiler.start(**apart)
        # It would wait for whatever upload is under way, and for a lock that a stop of ours may hold.
        sys.modules["ddtrace.internal.atexit"].unregister(profiler.stop)
        self.release_handlers()

    def stop_sampler(self) -> None:
        """Native code goes on where the rest of its start has failed, and every later start would fail for that."""
        stop = getattr(self.sampler, "stop", None)
        if stop is not None:
            stop()

    def keep_stopped(self, profiler: Any) -> None:
        """ddtrace ends its threads before a fork, and a moment after it begins them anew, stopped ones too."""
        threads = sys.modules.get("ddtrace.internal.threads")
        waiting = getattr(threads, "_threads_to_restart_after_fork", None)
        if threads is None or waiting is None:
            return
        # What begins them has it meanwhile.
        has_lock = threads._forking_lock.acquire(timeout=_PATIENCE)
        waiting.discard(profiler._profiler._scheduler._worker)
        if has_lock:
            threads._forking_lock.release()

    def forget(self, profiler: Any) -> None:
        """It runs no more, though it was not stopped in the usual way."""
        if getattr(self._profiler, "_active_instance", None) is profiler:
            self._profiler._active_instance = None

    def release_handlers(self) -> None:
        """Leave SIGSEGV and SIGBUS to the application: without fast_copy the sampler needs no handler of them."""
        uninstall = getattr(self.sampler, "uninstall_segv_handler", None)
        if uninstall is not None:
            uninstall()

    def restore_threads(self) -> None:
        """Each start wraps two methods of `threading.Thread` once more: after a thousand no thread could begin."""
        for name, method in self._methods.items():
            wrapped = getattr(self._thread_class, name, None)
            if wrapped is not method and str(getattr(wrapped, "__module__", "")).startswith("ddtrace.profiling"):
                setattr(self._thread_class, name, method)

    def without_effect(self, tuned: Mapping[str, Any]) -> Iterator[str]:
        """Names of settings that somebody has set, and that this version does not know."""
        stack = self._settings.stack
        if tuned["overhead"] != 1.0 and not hasattr(stack, "adaptive_sampling_target_overhead"):
            yield "overhead"
        if tuned["max_threads"] != 25 and not hasattr(stack, "max_threads"):
            yield "max_threads"
        if tuned["exception"] and (not hasattr(self._settings, "exception") or sys.version_info < (3, 12)):
            yield "exception"
        if tuned["native_frames"] and (not hasattr(stack, "native_frames") or sys.version_info < (3, 12)):
            yield "native_frames"

    @contextmanager
    def _told(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Its settings are those of the process: the application's own are there again after the block."""
        before: list[tuple[Any, str, Any]] = []
        try:
            for path, value in settings.items():
                group, _, name = path.rpartition(".")
                holder = getattr(self._settings, group, None) if group else self._settings
                # Not every version has each.
                if hasattr(holder, name):
                    before.append((holder, name, getattr(holder, name)))
                    setattr(holder, name, value)
            yield
        finally:
            for holder, name, value in reversed(before):
                setattr(holder, name, value)


@contextmanager
def _steady_threads() -> Iterator[None]:
    """A start looks through the dictionary of threads, and fails if one begins or ends meanwhile."""
    module = sys.modules.get("ddtrace.profiling.collector.threading")
    real = getattr(module, "ddtrace_threading", None)
    if module is None or real is None:
        yield
        return
    steady: Any = module
    steady.ddtrace_threading = _SteadyThreading(real)
    try:
        yield
    finally:
        steady.ddtrace_threading = real


class _SteadyThreading:
    """Stands in for the module `threading`."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._active = _SteadyThreads(real._active)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _SteadyThreads:
    """Of the threads that are there at the beginning, each that is there still."""

    def __init__(self, real: dict[int, Any]) -> None:
        self._real = real

    def items(self) -> Iterator[tuple[int, Any]]:
        for ident in list(self._real):
            if (thread := self._real.get(ident)) is not None:
                yield ident, thread


def runs(profiler: Any) -> bool:
    """Whether one of ddtrace's says so of itself."""
    status = getattr(getattr(profiler, "_profiler", None), "status", None)
    return str(getattr(status, "name", "")) == "RUNNING"


def _told(tuned: Mapping[str, Any], code_provenance: bool) -> dict[str, Any]:
    return {
        # Once told a file it never uploads again, not even in another session.
        "output_pprof": None,
        "code_provenance": code_provenance,
        "stack.enabled": tuned["stack"],
        "stack.adaptive_sampling": True,
        "stack.v2_adaptive_sampling": True,
        "stack.adaptive_sampling_target_overhead": tuned["overhead"],
        "stack.max_threads": tuned["max_threads"],
        "stack.native_frames": tuned["native_frames"],
        # It costs nothing that could be measured to read memory by a system call, which needs no handler of SIGSEGV.
        "stack.fast_copy": False,
        "memory.enabled": tuned["memory"],
        "lock.enabled": tuned["lock"],
        "exception.enabled": tuned["exception"],
        "pytorch.enabled": False,
    }


def import_library() -> Library:
    """Raises ImportError."""
    is_first = "ddtrace" not in sys.modules
    with _as_for_a_profiler_alone() if is_first else hold_off_forks():
        profiling = import_vendor("ddtrace.profiling", REQUIREMENT)
    if not getattr(profiling, "is_available", True):
        raise ImportError(f"ddtrace's profiler cannot be used here: {getattr(profiling, 'failure_msg', '')}")
    library = Library()
    if is_first:
        library.release_handlers()
        # What cannot be put to rest goes on idling.
        with suppress(Exception):
            _rest_tracer()
    return library


@contextmanager
def _as_for_a_profiler_alone() -> Iterator[None]:
    """ddtrace reads settings while it is imported, and from the environment alone.

    Children inherit none of these, and nobody sees them who looks at all variables.
    """
    environment: Any = os.environ
    real = getattr(environment, "_data", None)
    if real is None:
        yield
        return
    environment._data = _Told(real)
    try:
        yield
    finally:
        environment._data = real


class _Told:
    """Stands in for the variables of `os.environ`; what the application has set counts for more."""

    def __init__(self, real: dict[bytes, bytes]) -> None:
        self._real = real

    def __getitem__(self, name: bytes) -> bytes:
        try:
            return self._real[name]
        except KeyError:
            return _AS_FOR_A_PROFILER_ALONE[name]

    def __setitem__(self, name: bytes, value: bytes) -> None:
        self._real[name] = value

    def __delitem__(self, name: bytes) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)


def _rest_tracer() -> None:
    """Importing ddtrace makes its tracer, with two threads, which asks the agent about itself now and then.

    It is put in the state that it has in a forked child: the first span that anybody begins makes both anew.
    """
    tracer = sys.modules["ddtrace"].tracer
    runtime = sys.modules["ddtrace.internal.native_runtime"].get_native_runtime
    if hasattr(tracer, "_post_fork_writer_pending"):
        tracer._span_aggregator.writer.shutdown_exporter()
        tracer._post_fork_writer_pending = True
        runtime().shutdown(1000)
        runtime.cache_clear()
