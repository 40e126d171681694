"""Work for a profiler to find, and a wait for what it leaves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from support.children import PATIENCE

_Found = TypeVar("_Found")


def spin_in_here(until: "threading.Event | _Spent") -> None:
    while not until.is_set():
        sum(range(2000))


class _Spent:
    """Set once this thread has used so much processor time."""

    def __init__(self, seconds: float) -> None:
        self._until = time.thread_time() + seconds

    def is_set(self) -> bool:
        return time.thread_time() >= self._until


def spin(seconds: float = 0.5) -> None:
    """Burn so much processor time in `spin_in_here`, however long that takes."""
    spin_in_here(_Spent(seconds))


@contextmanager
def spinning() -> Iterator[None]:
    """A thread that burns CPU in `spin_in_here`."""
    done = threading.Event()
    thread = threading.Thread(target=spin_in_here, args=(done,))
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def eventually(found: Callable[[], _Found]) -> _Found:
    """What is found, once it is anything; nobody tells when it comes."""
    deadline = time.monotonic() + PATIENCE
    while not (now := found()):
        assert time.monotonic() < deadline, f"still {now!r} after {PATIENCE:g} s"
        time.sleep(0.02)
    return now
