"""Whether what the profiler takes arrives at its server: an agent is silent when it does not."""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from rheostat._contract.backend import UNKNOWN_HEALTH, Backend, BackendError, Health, Reachable
from rheostat._host.calls import Calls, Returned
from rheostat._report.journal import Journal

THREAD_NAME: Final = "rheostat-look"

_FIRST_LOOK: Final = 1.0
"""Seconds from a start: a process that lives shorter pays nothing."""
_TIMEOUT: Final = 5.0
"""Seconds that the server has to answer."""
_OVERDUE: Final = 2 * _TIMEOUT
"""Seconds after which a look that should have ended by itself counts as failed."""


class Delivery:
    """Owns what is known of the server while a session runs: one look at a time, which nothing else waits for."""

    def __init__(
        self,
        backend: Backend,
        interval: float,
        looks: Calls | None,
        journal: Journal,
        wake: Callable[[], None],
        random: Callable[[], float],
    ) -> None:
        """`interval` is in seconds, 0 for never; without `looks` nobody looks either."""
        self._backend = backend if isinstance(backend, Reachable) and interval and looks is not None else None
        self._interval = interval
        self._looks = looks
        self._journal = journal
        self._wake = wake
        self._random = random
        self._returned: deque[Returned] = deque()
        self._is_wanted = False
        self.is_looking = False
        self.due_at = math.inf
        """When something is to be done next (monotonic seconds)."""
        self.health = UNKNOWN_HEALTH

    def begin(self, now: float) -> None:
        """A session runs; one that follows another delivers to the same server."""
        if self._backend is not None and not self._is_wanted:
            self._is_wanted = True
            self.due_at = now + (_OVERDUE if self.is_looking else _FIRST_LOOK)

    def end(self) -> None:
        """No session runs: a look in flight ends by itself, and says nothing any more."""
        self._is_wanted = False
        self.due_at = math.inf
        self.health = UNKNOWN_HEALTH

    def step(self, now: float) -> bool:
        """Take what a look has found, begin the next when it is due; tells whether what is known has changed."""
        before = self.health
        while self._returned:
            self.is_looking = False
            self._take(self._returned.popleft(), now)
        if now >= self.due_at:
            if self.is_looking:
                self._fail(f"no answer within {_OVERDUE:g} s")
                self.due_at = math.inf
            else:
                self._look(now)
        return self.health != before

    def _look(self, now: float) -> None:
        backend, looks = self._backend, self._looks
        assert backend is not None
        assert looks is not None
        self.is_looking, self.due_at = True, now + _OVERDUE
        try:
            looks.call(lambda: backend.reach(_TIMEOUT), self._land)
        # There is no thread to be had: that is said elsewhere, and this is no reason to do without.
        except BaseException:
            self.is_looking, self.due_at = False, self._next(now)

    def _land(self, returned: Returned) -> None:
        """In the look's own thread: hand over what it found, nothing more."""
        self._returned.append(returned)
        self._wake()

    def _take(self, returned: Returned, now: float) -> None:
        if not self._is_wanted:
            return
        self.due_at = self._next(now)
        if returned.error is None:
            self.health = Health("healthy", "profiles are taken")
            self._journal.recover("recovered", "profiles arrive again", about="delivery")
        elif isinstance(returned.error, BackendError):
            self._fail(self._journal.clean(str(returned.error)))
        else:
            self._fail(self._journal.describe(returned.error))

    def _fail(self, reason: str) -> None:
        self.health = Health("failed", reason)
        text = (
            f"profiles do not arrive: {reason}; the service is not affected, profiling goes on and its profiles are "
            "lost; look at where they go, be it a server with its address and credentials, or a folder"
        )
        self._journal.complain("delivery_failed", text, about="delivery", reason=reason)

    def _next(self, now: float) -> float:
        """Not all processes of a fleet at the same moment."""
        return now + self._interval * (1.0 - self._random() / 10)
