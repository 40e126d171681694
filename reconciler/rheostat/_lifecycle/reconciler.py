"""The handle that a host holds on what governs its profiler."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from rheostat._config.config import Config
from rheostat._core.knowledge import NEVER_READ
from rheostat._core.policy import Policy
from rheostat._core.transition import Observer
from rheostat._host import native
from rheostat._host.exits import Exits
from rheostat._host.forks import FORKS
from rheostat._host.runtime import is_worker, may_turn_green
from rheostat._host.uwsgi import is_first_of_uwsgi, is_still_to_fork, lacks_threads
from rheostat._lifecycle.controller import Controller, Fork
from rheostat._report.journal import Journal
from rheostat._report.status import Snapshot, Status

_FORK_SETTLES: Final = 0.2
"""Seconds that a forked child is left alone, so that one that execs or daemonises pays for nothing."""

_NO_THREADS: Final = (
    "uWSGI runs without Python threads, so nothing could turn profiling off: this process runs unprofiled; "
    "set enable-threads = true"
)

_NOTICED: Final[dict[tuple[int, int], object]] = {}
"""Which thread of a child, by the ids of its parent and its own, was the first to notice the fork."""

_LEFT_BEHIND: Final[list[object]] = []
"""Objects that parents have made: a child must not finalise them, whatever becomes of the handles."""


class _Decision:
    """Owns the lock of whoever decides whether a process begins to be governed."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """In the child of a fork: who held it is not here."""
        self.lock = native.ReentrantLock()


_DECISION: Final = _Decision()


class Reconciler:
    """Governs the profiler of this process, in a daemon thread named ``rheostat``. Made by `start`.

    As a context manager it stops at the end of the block.
    """

    def __init__(
        self,
        config: Config | None,
        observers: Sequence[Observer],
        journal: Journal,
        error: str = "",
        *,
        forked: bool = False,
    ) -> None:
        """`forked`: this process is the child of a fork that happened before Rheostat was there."""
        self._config = config
        self._policy = config.policy if config is not None else Policy()
        self._observers = observers
        self._journal = journal
        self._error = error
        self._exits = Exits(self._at_exit)
        self._pid = os.getpid()
        self._is_worker = forked
        self._controller: Controller | None = None
        # Without a controller nothing is done; `bool()` is False: nothing has parked.
        self.park: Callable[[], bool] = bool
        """Before a fork; see `Controller`."""
        self.unpark: Callable[[], object] = bool
        """After a fork, in the parent; see `Controller`."""
        self._waits_for_workers = False
        self._is_beginning = False
        """Until its controller is made, which in the child of a fork a thread does."""
        self._why_no_flags = NEVER_READ.reason

    def status(self) -> Status:
        """The status now. Never blocks; ages are those of this moment."""
        self.notice_fork()
        # In this order: the controller is there before it is said that none is to come.
        closed = not (self._is_beginning or self._waits_for_workers)
        controller = self._controller
        if controller is not None:
            return controller.status()
        nothing = Snapshot(pid=os.getpid(), source_reason=self._why_no_flags, error=self._error, closed=closed)
        return nothing.at(time.monotonic())

    def nudge(self) -> None:
        """Look at the flags now. Never blocks; safe in a signal handler."""
        self.notice_fork()
        controller = self._controller
        if controller is not None:
            controller.nudge()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the profiler and let go of everything; waits up to `timeout` seconds (None: the stop deadline).

        Gives True once all is let go; False if the backend needs longer, and it goes on in the background, or if
        the backend refused to stop.
        """
        self.notice_fork()
        controller = self._begin_no_more()
        return controller is None or controller.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_over(self) -> bool:
        """It has ended, or never begun, and left no session behind: another may take its place."""
        if self._is_beginning or self._waits_for_workers:
            return False
        return self._controller is None or self._controller.is_over

    @property
    def is_closing(self) -> bool:
        return self._controller is not None and self._controller.is_closing

    def begin(self) -> None:
        """Start the control thread, if this process is to have one; where it cannot, say so and do nothing."""
        self._error = self._refusal()
        self._why_no_flags = self._why_not_yet()
        self._waits_for_workers = not self._error and bool(self._why_no_flags)
        if self._error or self._waits_for_workers:
            return
        self._why_no_flags = NEVER_READ.reason
        self._is_beginning = True
        controller = self._made_controller()
        if controller is not None:
            controller.begin()

    def begin_if_waiting(self) -> None:
        """In a process that may be the worker that it waits for."""
        if self._waits_for_workers:
            self.begin()

    def notice_fork(self) -> None:
        """A host that is not written in Python may fork without telling CPython: the process id shows it."""
        pid = os.getpid()
        # Several threads of the child may come by at once.
        if pid != self._pid and _NOTICED.setdefault((self._pid, pid), me := object()) is me:
            FORKS.after_in_child()
            self.forked()

    def forked(self) -> None:
        """In the child of a fork: begin anew, and never touch what the parent made, not even to finalise it.

        The child is kept from its own code meanwhile, and whatever is made or changed here makes it copy memory that
        it shares with the parent: a bare thread makes what is needed.
        """
        _DECISION.renew()
        self._pid = os.getpid()
        parent, waited = self._controller, self._waits_for_workers
        if parent is None and not (self._is_beginning or waited):
            return
        # From here on a signal's handler may stop it.
        self._is_beginning, self._waits_for_workers, self._controller = True, False, None
        _LEFT_BEHIND.append(parent)
        self.park = self.unpark = bool
        self._why_no_flags = NEVER_READ.reason
        goes_on = self._policy.fork_policy != "off" and (parent is None or parent.goes_on_in_children)
        is_wanted = waited or goes_on
        self._error = self._refusal() if is_wanted else ""
        if not is_wanted or self._error:
            self._is_beginning = False
        if self._is_beginning:
            self._begin_soon(parent, time.monotonic() + _FORK_SETTLES)

    def _begin_soon(self, parent: Controller | None, settles_at: float) -> None:
        try:
            native.start_new_thread(self._begin_in_bare_thread, (parent, settles_at))
        # The kernel has no thread for us, or the process is at its end.
        except RuntimeError:
            controller = self._made_controller(Fork.of(parent, settles_at))
            if controller is not None:
                controller.begin_without_thread()

    def _begin_in_bare_thread(self, parent: Controller | None, settles_at: float) -> None:
        if may_turn_green():
            # A server's worker has it done first of all, right after its fork.
            native.sleep(max(0.0, settles_at - time.monotonic()))
        controller = self._made_controller(Fork.of(parent, settles_at))
        if controller is not None:
            controller.begin_in_bare_thread()

    def _made_controller(self, fork: Fork | None = None) -> Controller | None:
        """None if it is stopped already."""
        assert self._config is not None
        controller = Controller(self._config, self._observers, self._journal, self._exits, fork)
        with _DECISION.lock:
            if not self._is_beginning:
                return None
            self._controller = controller
            self.park, self.unpark = controller.park, controller.unpark
            self._is_beginning = False
        return controller

    def _begin_no_more(self) -> Controller | None:
        with _DECISION.lock:
            self._is_beginning = self._waits_for_workers = False
            return self._controller

    def _why_not_yet(self) -> str:
        if is_still_to_fork():
            return "uWSGI's workers are governed once they are forked, its master is not"
        if self._policy.processes.of == "workers" and not (self._is_worker or is_worker()):
            return "only workers are governed"
        return ""

    def _refusal(self) -> str:
        """Why this process cannot be governed, which has been said."""
        if lacks_threads():
            if is_first_of_uwsgi():
                self._journal.once("no_threads", _NO_THREADS, about="uWSGI's threads", level=logging.ERROR)
            return _NO_THREADS
        return ""

    def _at_exit(self) -> None:
        # What governs the parent has no thread here that could stop anything.
        if os.getpid() != self._pid:
            return
        controller = self._begin_no_more()
        if controller is not None:
            controller.close_at_exit()


Reconciler.__module__ = "rheostat"
