"""The threads of this process as the kernel has them: their names, and the processor time of each. On Linux."""

import os
import posix
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_CLOCK: Final = 6
"""Linux makes the clock of a thread's processor time out of its id and this."""
_OWN_NAME: Final = "/proc/thread-self/comm"


@contextmanager
def named_threads(name: str) -> Iterator[None]:
    """Threads that are started within have a name by which they are known again, where the kernel allows it.

    It is the kernel's: native ones inherit it from the thread that starts them. It may have 15 characters.
    """
    file = before = None
    # A file object of Python's would make more system calls, each of which lets go of the interpreter's lock, and under
    # eventlet the functions of `os` want a hub.
    with suppress(OSError):
        file = posix.open(_OWN_NAME, os.O_RDWR | os.O_CLOEXEC)
        before = posix.read(file, 64).strip()
        posix.write(file, name.encode())
    try:
        yield
    finally:
        with suppress(OSError):
            if before is not None and file is not None:
                posix.write(file, before)
        if file is not None:
            posix.close(file)


def task_ids() -> set[int]:
    """The kernel's ids of the threads. Raises OSError."""
    return {int(each) for each in os.listdir("/proc/self/task")}


def task_name(task: int) -> str:
    """Empty once it has ended."""
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def task_time_ns(task: int) -> int:
    """Nanoseconds of processor time. Raises OSError once it has ended."""
    return time.clock_gettime_ns((~task << 3) | _CLOCK)
