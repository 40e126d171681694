"""Files that are written beside everything else: a disk that hangs holds up nobody."""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from rheostat._host import native
from rheostat._host.execution import current
from rheostat._host.importing import hastened

THREAD_NAME: Final = "rheostat-files"
_BREATH: Final = 0.05
"""Seconds."""
_MOST: Final = 100
"""Jobs that wait behind one that hangs; what is too many is not done."""


class Scribe:
    """Owns the order of the jobs, and the thread that does them, which lives as long as there are any."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()
        self._lock = native.allocate_lock()
        self._works = False
        self._bell = native.Wake()
        self.trouble: BaseException | None = None
        """What was wrong with the last job, if it raised."""

    @property
    def is_idle(self) -> bool:
        return not self._works

    def do(self, job: Callable[[], object]) -> None:
        """Some time soon, after those before it."""
        self._add(job, _MOST)

    def _add(self, job: Callable[[], object], most: float) -> None:
        with self._lock:
            if len(self._jobs) >= most:
                return
            self._jobs.append(job)
            if self._works:
                return
            self._works = True
        try:
            current().start(self._work, THREAD_NAME)
        except RuntimeError as error:
            # At the end of the process, or of what it may have of threads: the next job tries again.
            self._works = False
            self.trouble = error

    def flush(self, seconds: float) -> None:
        """Wait until all that is to be done by now has been, `seconds` at most; not at all where there is no thread."""
        gate = native.Gate()
        self._add(gate.open, math.inf)
        self._bell.ring()
        if self._works:
            gate.wait(seconds)

    def finish(self, seconds: float) -> None:
        """The same, for a thread that may hang: where there is no other it does the work itself."""
        self.flush(seconds)
        if not self._works:
            self._work()

    def _work(self) -> None:
        # Changes come together. And a host that forks because of one, without telling CPython, hangs its child if a
        # thread waits for the interpreter's lock just then: one that sleeps does not.
        self._bell.wait(_BREATH)
        while True:
            with self._lock:
                if not self._jobs:
                    self._works = False
                    return
                job = self._jobs.popleft()
            try:
                # A file is some system calls, after each of which a thread that computes is waited for.
                with hastened():
                    job()
                self.trouble = None
            # Whatever it is, it must neither end this thread nor reach the host.
            except BaseException as error:
                self.trouble = error
