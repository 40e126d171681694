"""The resources of a process: threads and open files, those of native code included where the kernel tells of them."""

import gc
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

_TASKS: Final = "/proc/self/task"
_FILES: Final = next((each for each in ("/proc/self/fd", "/dev/fd") if os.path.isdir(each)), "")
_LOOK_AGAIN: Final = 0.05


class Resources(NamedTuple):
    """The threads and files at one moment. `tasks` are the kernel's threads; 0 where it does not tell."""

    threads: frozenset[threading.Thread]
    tasks: int
    files: int

    @classmethod
    def now(cls, shared: Sequence[str] = ()) -> Self:
        """`shared` are the beginnings of the names of threads that are nobody's in particular, and do not count."""
        threads = frozenset(threading.enumerate())
        counted = frozenset(each for each in threads if not each.name.startswith(tuple(shared)))
        return cls(counted, _count(_TASKS) - len(threads - counted), _count(_FILES))

    def more_than(self, before: "Resources") -> str:
        """The resources that are there now and were not, in words; empty if there are none."""
        # A thread that ended meanwhile makes room for another.
        new = len(self.threads) - len(before.threads)
        names = sorted(thread.name for thread in self.threads - before.threads)
        found = []
        if new > 0:
            found.append(f"{new} more Python threads ({', '.join(names)})")
        elif self.tasks > before.tasks:
            found.append(f"{self.tasks - before.tasks} more native threads")
        if self.files > before.files:
            found.append(f"{self.files - before.files} more open files or sockets")
        return " and ".join(found)


def what_is_left(before: Resources, patience: float, shared: Sequence[str] = ()) -> str:
    """The resources beyond `before` that stay for `patience` seconds, in words; empty if there are none."""
    deadline = time.monotonic() + patience
    while left := Resources.now(shared).more_than(before):
        if time.monotonic() > deadline:
            return left
        collect_garbage()
        time.sleep(_LOOK_AGAIN)
    return ""


def collect_garbage() -> None:
    """Some clients leave their sockets to the garbage collector, which warns of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def nothing_is_left(what: str, patience: float, shared: Sequence[str] = ()) -> Iterator[None]:
    """AssertionError unless the threads and files that come within the block are gone soon after it."""
    before = Resources.now(shared)
    yield
    left = what_is_left(before, patience, shared)
    assert not left, (
        f"{what}, {left} are left after {patience:g} s; expected none: end your threads and close your connections"
    )


def _count(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0
