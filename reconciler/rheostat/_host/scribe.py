"""Files that are written beside everything else: a disk that hangs holds up nobody."""

from collections import deque
from collections.abc import Callable
from typing import Final

from rheostat._host import native
from rheostat._host.execution import current

THREAD_NAME: Final = "rheostat-files"
_MOST: Final = 100
"""Jobs that wait behind one that hangs; what is too many is not done."""


class Scribe:
    """Owns the order of the jobs, and the thread that does them, which lives as long as there are any."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()
        self._lock = native.allocate_lock()
        self._works = False
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
            self._work()

    def flush(self, seconds: float) -> None:
        """Wait until all that is to be done by now has been, `seconds` at most."""
        gate = native.Gate()
        self.do(gate.open)
        gate.wait(seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._works = False
                    return
                job = self._jobs.popleft()
            try:
                job()
                self.trouble = ""
            except OSError as error:
                self.trouble = str(error)
