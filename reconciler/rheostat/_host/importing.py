"""Importing in the background of a process that computes, forks and imports meanwhile."""

import _thread
import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate
from typing import Any, Final

from rheostat._host import native
from rheostat._host.forks import FORKS

_INTERVAL: Final = 0.00025
"""Seconds for which a thread that computes keeps the interpreter's lock from one that has read a file.

An import reads hundreds, and at the usual 5 ms takes ten to twenty times as long beside such a thread as alone. At this
it takes five times as long, and the longest stall of the other thread is shorter than at 5 ms; below it nothing is
gained. It is a number that no application sets, so that its own is told from it.
"""


def import_apart(name: str) -> Any:
    """The module, imported where no fork can fall between, and no thread of the application's that imports it too.

    Its packages come first: were it the first, its lock would be held while they are imported, and a thread that
    imports them might want it.
    """
    with FORKS.delaying_forks(), hastened():
        get_ident = _thread.get_ident
        try:
            return _imported(name)
        # An import knows the thread that has its lock by this function: where gevent or eventlet has put another in its
        # place meanwhile it cannot let go, and ends in an error, though the module is there.
        except RuntimeError:
            if _thread.get_ident is get_ident:
                raise
        # Not before the error is gone: it keeps the locks that the next try has to take.
        return _imported(name)


def _imported(name: str) -> Any:
    return [importlib.import_module(each) for each in accumulate(name.split("."), "{}.{}".format)][-1]


def hastened() -> AbstractContextManager[None]:
    """Within the block a thread that computes gives way sooner: for what has to get the interpreter's lock often."""
    return _SWITCHING.hastened()


class _Switching:
    """Owns the interpreter's switch interval meanwhile; what the application sets within that time stays."""

    def __init__(self) -> None:
        self._users = 0
        self._before = self._ours = 0.0
        # A signal's handler may import, too.
        self._lock = native.ReentrantLock()
        FORKS.in_child.append(self._let_go_in_child)

    @contextmanager
    def hastened(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = sys.getswitchinterval()
                # One that is shorter is as the application wants it.
                sys.setswitchinterval(min(self._before, _INTERVAL))
                self._ours = sys.getswitchinterval()
        try:
            yield
        finally:
            with self._lock:
                # In the child of a fork within the block nobody is left to count.
                self._users = max(0, self._users - 1)
                if self._users == 0:
                    self._restore()

    def _restore(self) -> None:
        if sys.getswitchinterval() == self._ours:
            sys.setswitchinterval(self._before)

    def _let_go_in_child(self) -> None:
        """Who imported when the parent forked is not here."""
        self._lock = native.ReentrantLock()
        if self._users:
            self._users = 0
            self._restore()


_SWITCHING: Final = _Switching()
