"""The interpreter's own threads and locks, whoever has put green ones in their place.

A native thread that meets a green lock may wait for ever, or stop the loop that the green threads share. So what
Rheostat runs in threads of its own is made of these. The bootstrap imports this module in every process below the
launcher, so it imports nothing that the interpreter has not loaded by itself.
"""

import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def imported(name: str) -> "Any":
    """The module, unless it is not there, or only half: a thread may be importing it."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def green_threads() -> str:
    """The library that has replaced the interpreter's threads by green ones, if one has."""
    gevent = getattr(imported("gevent.monkey"), "is_module_patched", None)
    if gevent is not None and gevent("threading"):
        return "gevent"
    eventlet = getattr(imported("eventlet.patcher"), "is_monkey_patched", None)
    return "eventlet" if eventlet is not None and eventlet("thread") else ""


def _original(module: str, name: str) -> "Any":
    library = green_threads()
    if library == "gevent":
        return sys.modules["gevent.monkey"].get_original(module, name)
    if library == "eventlet":
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(__import__(module), name)


start_new_thread: Callable[[Callable[..., object], tuple["Any", ...]], object] = _original(
    "_thread", "start_new_thread"
)
"""Raises RuntimeError if there is no thread to be had."""
allocate_lock: "Callable[[], Any]" = _original("_thread", "allocate_lock")
get_native_id: Callable[[], int] = _original("_thread", "get_native_id")
sleep: Callable[[float], None] = _original("time", "sleep")

_LONGEST: float = _original("_thread", "TIMEOUT_MAX")


def shares_green_threads() -> bool:
    """The caller shares the native thread of the application's green ones: while it waits, none of them runs."""
    return bool(green_threads()) and is_main_thread()


def is_main_thread() -> bool:
    """Whatever the functions of `threading` say."""
    return get_native_id() == os.getpid()


def known_threads() -> "list[Any]":
    """Those that `threading` knows, without its lock, which may be a green one."""
    return list(sys.modules["threading"]._active.values())


def acquired(lock: "Any", timeout: float) -> bool:
    """Take a lock within `timeout` seconds, however many these are; tells whether it could."""
    return bool(lock.acquire(timeout=min(max(timeout, 0.0), _LONGEST)))


def block_forever() -> None:
    """Never return."""
    lock = allocate_lock()
    lock.acquire()
    lock.acquire()


class Wake:
    """A bell: rung any number of times before the sleeper looks, it wakes it once.

    Made of a bare lock that is held while nobody has rung, because ringing it is atomic: unlike with
    `threading.Event`, a signal handler may ring while its own thread is in the middle of ringing.
    """

    def __init__(self) -> None:
        self._quiet = allocate_lock()
        self._quiet.acquire()

    def ring(self) -> None:
        """May be called from any thread, signal handler or finaliser; never blocks."""
        try:
            self._quiet.release()
        except RuntimeError:  # It has been rung already.
            return

    def wait(self, timeout: float) -> bool:
        """Sleep until it rings or `timeout` seconds have passed; tells which."""
        return acquired(self._quiet, timeout)


class Gate:
    """Opens once, for all that wait for it."""

    def __init__(self) -> None:
        self._barred = allocate_lock()
        self._barred.acquire()
        self.is_open = False

    def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self._barred.release()

    def wait(self, timeout: float) -> bool:
        """Until it opens, `timeout` seconds at most; tells whether it is open."""
        if not self.is_open and acquired(self._barred, timeout):
            self._barred.release()
        return self.is_open


class ReentrantLock:
    """A lock that the thread which holds it may take again.

    `threading.RLock` is not for native threads: eventlet puts a green one in its place, whatever holds it.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._owner = 0
        self._depth = 0
        self._acquiring: set[int] = set()

    def acquire(self, timeout: float = _LONGEST) -> bool:
        """Within `timeout` seconds; tells whether it is held."""
        me = get_native_id()
        if self._owner == me:
            self._depth += 1
            return True
        if me in self._acquiring:
            # A signal's handler, in the midst of the line that follows: its thread would wait for itself.
            return False
        self._acquiring.add(me)
        try:
            if not acquired(self._lock, timeout):
                return False
            self._owner, self._depth = me, 1
            return True
        finally:
            self._acquiring.discard(me)

    def release(self) -> None:
        """Nothing, if this thread does not hold it."""
        if self._owner != get_native_id():
            return
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
