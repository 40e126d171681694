"""Permits to profile, of which a host has only so many: locks that the kernel releases however a process ends."""

import fcntl
import os
import posix
from collections.abc import Callable
from contextlib import suppress
from typing import Final

FILE: Final = "rheostat-per-host.lock"
_QUEUE: Final = 1 << 20
"""Where in the file the queue begins; the permits are the bytes before it. No byte is ever written."""
_LATEST: Final = 1 << 50
_MOST_AT_ONCE: Final = 1000
"""Processes that may begin to wait within one millisecond."""
_MODE: Final = 0o666
LOOK_AGAIN: Final = 1.0
"""Seconds between the looks of one that waits, or whose turn is over."""


class Permits:
    """Owns this process's permit, or its place in the queue.

    A permit is a lock on one byte of a file. Who waits holds a lock on the byte that stands for the millisecond in
    which it began to, so that the first is the one before whom nobody holds any. Locks of this kind are a process's
    own: no child of a fork inherits them. The folder has to be on a file system of this host.
    """

    def __init__(self, open_file: Callable[[], int], wall: Callable[[], float]) -> None:
        """`open_file` gives the descriptor of the file, or raises OSError; `wall` seconds of the wall clock."""
        self._open_file = open_file
        self._wall = wall
        self._file = -1
        self._slot: int | None = None
        self._place: int | None = None
        self._until = 0.0

    def ask(self, most: int, turn: float, now: float, *, runs: bool) -> tuple[bool, float]:
        """Whether this process may profile, as one of `most`, and from when on (monotonic) that is to be asked again.

        Once its `turn` (seconds) is over and others wait it may not; while its session yet `runs` it keeps the permit.
        Raises OSError.
        """
        if self._slot is not None:
            if now < self._until and self._slot < most:
                return True, self._until
            if self._slot < most and not self._is_locked(_QUEUE, _LATEST):
                return True, now + LOOK_AGAIN
            if runs:
                return False, now + LOOK_AGAIN
            self._give_back()
        self._queue()
        if self._is_first() and self._take(most):
            self._leave_queue()
            self._until = now + turn
            return True, self._until
        return False, now + LOOK_AGAIN

    def renounce(self) -> None:
        """Neither hold a permit nor wait for one."""
        with suppress(OSError):
            self._give_back()
            self._leave_queue()

    def _take(self, most: int) -> bool:
        for slot in range(min(most, _QUEUE)):
            if self._lock(slot, 1):
                self._slot = slot
                return True
        return False

    def _give_back(self) -> None:
        if self._slot is not None:
            self._unlock(self._slot, 1)
            self._slot = None

    def _queue(self) -> None:
        if self._place is not None:
            return
        now = _QUEUE + int(self._wall() * 1000)
        for place in range(now, now + _MOST_AT_ONCE):
            if self._lock(place, 1):
                self._place = place
                return
        raise BlockingIOError("there is no place in the queue: somebody holds all of it")

    def _leave_queue(self) -> None:
        if self._place is not None:
            self._unlock(self._place, 1)
            self._place = None

    def _is_first(self) -> bool:
        return self._place is not None and not self._is_locked(_QUEUE, self._place)

    def _is_locked(self, first: int, end: int) -> bool:
        """Whether another process holds a byte of these."""
        if first >= end:
            return False
        # Shared: those that look at the same time do not see each other.
        if not self._lock(first, end - first, fcntl.LOCK_SH):
            return True
        self._unlock(first, end - first)
        return False

    def _lock(self, first: int, length: int, kind: int = fcntl.LOCK_EX) -> bool:
        file = self._opened()
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB, length, first)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, first: int, length: int) -> None:
        fcntl.lockf(self._opened(), fcntl.LOCK_UN, length, first)

    def _opened(self) -> int:
        # It stays open: to close any descriptor of the file would release all of the process's locks on it.
        if self._file < 0:
            self._file = self._open_file()
        return self._file


def opened_for_all(folder: str) -> int:
    """The descriptor of the file in a folder that processes of several users share. Raises OSError."""
    path = os.path.join(folder, FILE)
    file = posix.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    # Whatever the umask: processes of other users are to be counted, too.
    with suppress(OSError):
        posix.fchmod(file, _MODE)
    return file
