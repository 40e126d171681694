"""The background thread of a process that may fork at any moment."""

import os
import threading
from collections.abc import Callable

from rheostat._host import native
from rheostat._host.execution import current
from rheostat._host.native import get_native_id

THREAD_NAME = "rheostat"

_PARKING = 0.001
"""Seconds that a fork waits for the thread to be gone."""
_HOST_S_AND_OURS = 2
"""Threads."""


class Parked(BaseException):
    """Raised by `ControlThread.sleep`: the thread makes way for a fork, and another goes on in its place."""


class ControlThread:
    """Owns the one thread that runs `body`, from its start to the end of `body`, across the forks of the process.

    `body` is left by `Parked` for a fork, and called again after it. `on_lack` is told that the kernel has no thread
    for it then.
    """

    def __init__(self, body: Callable[[], None], on_lack: Callable[[RuntimeError], None]) -> None:
        self._body = body
        self._on_lack = on_lack
        self._wake = native.Wake()
        self.ring = self._wake.ring
        """Wake it. Never blocks; safe in a signal handler."""
        self._join: Callable[[float], None] | None = None
        self._native_id = 0
        self._session: int | None = 0
        self._can_park = False
        self._parking = native.allocate_lock()
        self._is_to_park = False
        self._has_parked = False
        self.is_lacking = False
        """A fork has ended the thread, and there was none to take its place."""
        self._counted_at = -1
        self._has_native_company = False

    @property
    def is_current(self) -> bool:
        """It is the one that asks."""
        return self._native_id == get_native_id()

    def start(self) -> None:
        """Raises RuntimeError if there is no thread to be had."""
        self._join = None
        self._join = current().start(self._run, THREAD_NAME)
        self._can_park = self._join is not None and self._native_id != 0

    def start_or_stand_in(self) -> None:
        """In a bare thread: start the real one, or do its work where there can be no other any more."""
        try:
            self.start()
        except RuntimeError:
            self._run()

    def start_soon(self) -> None:
        """After a fork, by a bare thread: the host does not wait until the new one gets to run, which can take a
        millisecond, nor make it, for which memory would have to be copied that the two processes share."""
        try:
            native.start_new_thread(self.start_or_stand_in, ())
        # The kernel has no thread for us, or the process is at its end.
        except RuntimeError as error:
            self.is_lacking = True
            self._on_lack(error)

    def restart_if_lost(self) -> None:
        """Try again where a fork has left us without one."""
        # Whoever else is at it does it; a signal's handler must not wait.
        if not self.is_lacking or not self._parking.acquire(blocking=False):
            return
        is_ours_to_get, self.is_lacking = self.is_lacking, False
        self._parking.release()
        # Without the lock: what is said of a failure goes through the host's handlers.
        if is_ours_to_get:
            self.start_soon()

    def sleep(self, seconds: float, session: int | None) -> None:
        """Within `body`: until it is woken; raises `Parked` if that was for a fork.

        `session` is another number once the profiler has started or ended; None if no fork is to end the thread now.
        """
        self._session = session
        self._wake.wait(seconds)
        if self._is_to_park and session is not None:
            with self._parking:
                if self._is_to_park:
                    self._has_parked = True
                    self._can_park = False
                    raise Parked

    def park(self) -> bool:
        """Before a fork: let the thread end, so that the host forks with no more threads than without us.

        Gives whether it has.
        """
        # Who forks reads little here: what has not been read for long takes time.
        session = self._session
        if session is None or not self._can_park or self._native_id == get_native_id():
            return False
        # Under green threads waiting would let others of the host run in the midst of its fork.
        if native.green_threads():
            return False
        is_counted = session == self._counted_at
        # The host's threads, a vendor's, a session's: they stay, so there would be several without ours too.
        if (is_counted and self._has_native_company) or threading.active_count() != _HOST_S_AND_OURS:
            return False
        if not is_counted:
            # Only now: those that Python knows come and go within a session.
            self._look_for_native_company(session)
            if self._has_native_company:
                return False
        try:
            self._is_to_park = True
            self.ring()
            if self._join is not None:
                self._join(_PARKING)
        # A signal's handler may raise in the midst of it.
        finally:
            with self._parking:
                # From here on it either has parked or goes on as if nothing had happened.
                self._is_to_park = False
        return self._has_parked

    def unpark(self) -> None:
        """After the fork, in the parent: go on."""
        if self._has_parked:
            self._has_parked = False
            self.start_soon()
        else:
            self.restart_if_lost()

    def _look_for_native_company(self, session: int) -> None:
        """Whether there are threads that Python does not know. A fork is not to wait for that, so it is seldom done."""
        had_company = self._has_native_company
        self._has_native_company = _native_threads() > _HOST_S_AND_OURS
        # What is seen twice is true until the next session: some thread may just be about to end.
        if self._has_native_company == had_company:
            self._counted_at = session

    def _run(self) -> None:
        me = self._native_id = get_native_id()
        # One that stands in cannot be waited for.
        self._can_park = self._join is not None
        try:
            self._body()
        except Parked:
            return
        finally:
            # The next may have begun already.
            if self._native_id == me:
                self._can_park, self._native_id = False, 0


def _native_threads() -> int:
    """Of this process, with those of Python; 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0
