"""The rest of this process, as far as it has been imported already."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from rheostat._host.native import green_threads, imported, known_threads
from rheostat._host.uwsgi import is_worker as is_uwsgi_worker
from rheostat._host.uwsgi import on_exit_of_worker as on_exit_of_uwsgi_worker


def is_worker() -> bool:
    """This process was forked or spawned by multiprocessing, or by what Celery has made of it, or by uWSGI."""
    return is_uwsgi_worker() or any(
        _parent(name) is not None for name in ("multiprocessing.process", "billiard.process")
    )


def is_embedded() -> bool:
    """The interpreter is part of another program, which may fork without telling CPython."""
    return not sys.orig_argv


def on_exit_of_worker(call: Callable[[], None]) -> None:
    """Have it called when a worker ends: most leave by ``os._exit``, where no atexit handler runs."""
    for name in ("multiprocessing.util", "billiard.util"):
        util = imported(name)
        if util is not None:
            util.Finalize(None, call, exitpriority=0)
    signals = imported("celery.signals")
    if signals is not None:
        # Celery's pool leaves without running billiard's finalisers.
        signals.worker_process_shutdown.connect(lambda **_: call(), weak=False)
    on_exit_of_uwsgi_worker(call)


def may_turn_green() -> bool:
    """A library of green threads is here and may be about to replace the native ones: a thread that is just starting
    would end with a traceback, and one that holds a lock of `logging` or of an import release another."""
    return not green_threads() and any(imported(name) for name in ("eventlet.patcher", "gevent.monkey"))


def other_profilers() -> list[str]:
    """Profilers that run in this process already, as far as they can be known."""
    found = [f"the thread {each.name}" for each in known_threads() if "profil" in each.name.lower()]
    ddtrace = getattr(imported("ddtrace.profiling.bootstrap"), "profiler", None)
    if ddtrace is not None and _is_running(ddtrace):
        found.append("ddtrace")
    if signal.getitimer(signal.ITIMER_PROF)[0] > 0:
        found.append("a timer of CPU time (ITIMER_PROF)")
    monitoring = getattr(sys, "monitoring", None)
    tool = monitoring and monitoring.get_tool(monitoring.PROFILER_ID)
    if tool:
        found.append(f"{tool} (sys.monitoring)")
    elif threading.getprofile() is not None:
        found.append("a profile function (threading.setprofile)")
    return found


def _is_running(profiler: Any) -> bool:
    """Of ddtrace's, that says so of itself or of what is within."""
    status = getattr(getattr(profiler, "_profiler", profiler), "status", None)
    return str(getattr(status, "name", status)).upper().endswith("RUNNING")


def _parent(module: str) -> Any:
    process = imported(module)
    if process is None:
        return None
    parent = getattr(process, "parent_process", None)
    if parent is not None:
        return parent()
    # Billiard's children know their parent by its pid alone.
    current = getattr(process, "current_process", None)
    return None if current is None else getattr(current(), "_parent_pid", None)
