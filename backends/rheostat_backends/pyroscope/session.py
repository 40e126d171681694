"""The agent's session, of which a process has one: importing the agent, and the threads by which a session is known."""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, Final

from rheostat.plugins import import_vendor, task_ids, task_name

REQUIREMENT: Final = "rheostat[pyroscope]"
THREADS: Final = "rheostat-agent"
"""How the kernel calls the threads of a session: they inherit the name from the thread that starts it."""


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


def session_threads() -> int | None:
    """How many of this process's threads have a session's name; None if they cannot be looked at."""
    try:
        return sum(task_name(each) == THREADS for each in task_ids())
    except OSError:
        return None
