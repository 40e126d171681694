"""Files that are written beside everything else: a disk that hangs holds up nobody."""

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
        self.trouble = ""
        """The OSError of the last job, if it raised one."""

    @property
    def is_idle(self) -> bool:
        return not self._works

    def do(self, job: Callable[[], object]) -> None:
        """Some time soon, after those before it."""
        with self._lock:
            if len(self._jobs) >= _MOST:
                return
            self._jobs.append(job)
            if self._works:
                return
            self._works = True
        try:
            current().start(self._work, THREAD_NAME)
        except RuntimeError:
            # At the end of the process, or of what it may have of threads.
            self._bell.ring()
            self._work()

    def flush(self, seconds: float) -> None:
        """Wait until all that is to be done by now has been, `seconds` at most."""
        gate = native.Gate()
        self.do(gate.open)
        self._bell.ring()
        gate.wait(seconds)

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
                self.trouble = ""
            except OSError as error:
                self.trouble = str(error)
