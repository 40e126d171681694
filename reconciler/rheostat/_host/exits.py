"""The last call that a process makes to Rheostat as it ends."""

import atexit
import os
from collections.abc import Callable

from rheostat._host.runtime import is_worker, on_exit_of_worker


class Exits:
    """Owns when `call` is made as the process ends, which may be more than once; children of a fork inherit it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._is_registered = False
        self._comes_first = False
        self._worker = 0

    def register(self) -> None:
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self._call)

    def register_before_the_agent(self) -> None:
        """Once more, after the first call has made the backend import its agent.

        The agent registers its own when it is imported, handlers run last-registered first, and the agent's waits
        for a hung server for 10 s. The first registration stays: if the interpreter is exiting already, a new one
        would come too late, and without the old one nothing would be flushed.
        """
        if not self._comes_first:
            self._comes_first = True
            atexit.register(self._call)

    def register_if_worker(self) -> None:
        """Workers leave without the interpreter's handlers, each by its own."""
        if self._worker != os.getpid() and is_worker():
            self._worker = os.getpid()
            on_exit_of_worker(self._call)

    def unregister(self) -> None:
        self._is_registered = False
        atexit.unregister(self._call)
