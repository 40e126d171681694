"""The agent's session, of which a process has one: importing the agent, and the threads by which a session is known."""

import atexit
import os
import posix
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType
from typing import Any, Final

from rheostat.plugins import import_vendor

REQUIREMENT: Final = "rheostat[pyroscope]"
THREADS: Final = "rheostat-agent"
"""How the kernel calls the threads of a session: they inherit the name from the thread that starts it."""
_OWN_NAME: Final = "/proc/thread-self/comm"


class _Session:
    """Owns the knowledge whether the agent's session in this process is Rheostat's."""

    def __init__(self) -> None:
        self._pid = 0

    def begin(self) -> None:
        self._pid = os.getpid()

    def end(self) -> None:
        self._pid = 0

    def leave(self, handler: Callable[[], object]) -> None:
        """In place of the agent's own exit handler, which waits for as long as its server hangs.

        A session of Rheostat's is stopped by then, or was not to be waited for any longer.
        """
        if self._pid != os.getpid():
            handler()


SESSION: Final = _Session()


def import_agent() -> Any:
    """The agent, with its exit handler in our hands unless the application has imported it before.

    Raises ImportError.
    """
    if "pyroscope" in sys.modules:
        return import_vendor("pyroscope", REQUIREMENT)
    register, me = atexit.register, threading.get_ident()
    handlers: list[BuiltinFunctionType] = []

    def note(function: Any, *args: Any, **kwargs: Any) -> Any:
        # Its handler is native code, registered while it is imported; nothing else in the world names it.
        if isinstance(function, BuiltinFunctionType) and threading.get_ident() == me:
            handlers.append(function)
        return register(function, *args, **kwargs)

    # For this one import; other threads' registrations pass through.
    exits: Any = atexit
    exits.register = note
    try:
        agent = import_vendor("pyroscope", REQUIREMENT)
    finally:
        exits.register = register
    for handler in handlers:
        atexit.unregister(handler)
        atexit.register(SESSION.leave, handler)
    return agent


@contextmanager
def named_threads() -> Iterator[None]:
    """Threads that are started within have a name by which they are known again, where the kernel allows it."""
    file = before = None
    # A file object of Python's would make more system calls, each of which lets go of the interpreter's lock, and under
    # eventlet the functions of `os` want a hub.
    with suppress(OSError):
        file = posix.open(_OWN_NAME, os.O_RDWR | os.O_CLOEXEC)
        before = posix.read(file, 64).strip()
        posix.write(file, THREADS.encode())
    try:
        yield
    finally:
        with suppress(OSError):
            if before is not None and file is not None:
                posix.write(file, before)
        if file is not None:
            posix.close(file)


def session_threads() -> int | None:
    """How many of this process's threads have a session's name; None if they cannot be looked at."""
    try:
        names = [name for _, name in threads()]
    except OSError:
        return None
    return names.count(THREADS)


def threads() -> Iterator[tuple[int, str]]:
    """The kernel's id and name of each thread of this process."""
    for each in os.listdir("/proc/self/task"):
        # It may have ended since.
        with suppress(OSError), open(f"/proc/self/task/{each}/comm") as file:
            yield int(each), file.read().strip()
