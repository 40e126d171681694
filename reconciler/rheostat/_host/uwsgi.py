"""uWSGI, whose master forks by the bare system call: no hook of ``os.register_at_fork`` is called.

A thread that holds the interpreter's lock at such a fork is not in the child to release it, and the worker hangs for
ever. So no thread may run in a process that uWSGI is still going to fork. In each process that serves it calls
``uwsgi.post_fork_hook``, once and before anything is served: in a worker, a mule and a spooler, and without a master in
the first worker too, which is no child.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

_MODULE: Final = "uwsgi"
_PROGRAMS: Final = ("uwsgi", "pyuwsgi")


def is_starting() -> bool:
    """This interpreter is uWSGI's, which has not made its module yet."""
    if _MODULE in sys.builtin_module_names:
        return True
    if sys.orig_argv:
        return len(sys.orig_argv) > 1 and os.path.basename(sys.orig_argv[1]) in _PROGRAMS
    # Embedded: before CPython 3.12 nothing but the program itself tells whose it is.
    with suppress(ImportError, OSError):
        import ctypes

        return hasattr(ctypes.CDLL(None), "uwsgi_setup")
    return False


def is_still_to_fork() -> bool:
    """This process loads the application for workers that uWSGI will fork."""
    return _module() is not None and not is_worker()


def is_worker() -> bool:
    """uWSGI serves by this process: as a worker, a mule or a spooler."""
    module = _module()
    if module is None:
        return False
    is_spooler = getattr(module, "i_am_the_spooler", bool)
    return bool(module.worker_id() or module.mule_id() or is_spooler())


def is_first_of_uwsgi() -> bool:
    """The first worker, or what comes before it: one that may speak for all."""
    module = _module()
    return module is not None and module.worker_id() <= 1


def lacks_threads() -> bool:
    """uWSGI never releases the interpreter's lock but while it calls the application: without ``enable-threads``,
    up to 2.0.26."""
    module = _module()
    return module is not None and not module.has_threads


def on_worker(call: Callable[[], object]) -> None:
    """Have it called in each process by which uWSGI serves, in its main thread; it must not raise."""
    _hook("post_fork_hook").ours.append(call)


def on_exit_of_worker(call: Callable[[], object]) -> None:
    """Have it called as a worker ends, also where uWSGI leaves the interpreter's exit handlers out."""
    if _module() is not None:
        _hook("atexit").ours.append(call)


class _Hook:
    """Owns one name in the module: uWSGI finds our calls under it, the application the function that it has set."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self._name = name
        self._theirs: Any = vars(module).get(name)
        self.ours: list[Callable[[], object]] = []

    def __call__(self) -> None:
        try:
            for call in self.ours:
                call()
        finally:
            if self._theirs is not None:
                self._theirs()

    def __get__(self, module: object, owner: type) -> Any:
        if self._theirs is None:
            raise AttributeError(f"module {_MODULE!r} has no attribute {self._name!r}")
        return self._theirs

    def __set__(self, module: object, theirs: Any) -> None:
        self._theirs = theirs

    def __delete__(self, module: object) -> None:
        self._theirs = None


def _module() -> Any:
    """The module that uWSGI has filled; none elsewhere, and while uWSGI is starting."""
    module = sys.modules.get(_MODULE)
    return module if hasattr(module, "worker_id") else None


def _hook(name: str) -> _Hook:
    # uWSGI fills a module that is there already, and looks its hooks up in the module's dictionary.
    module = sys.modules.setdefault(_MODULE, ModuleType(_MODULE, "uWSGI api module."))
    hook = vars(type(module)).get(name)
    if not isinstance(hook, _Hook):
        hook = _Hook(module, name)
        module.__class__ = type(_MODULE, (type(module),), {name: hook})
        vars(module)[name] = hook
    return hook
