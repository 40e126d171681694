"""Work in a background thread of a process that may fork or end at any moment."""

import atexit
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from rheostat._host import native

_PATIENCE: Final = 1.0
"""Seconds that a fork waits, or the end of the interpreter. More would hold up the host, whose own import may be what
is waited for."""
_FOR_EVER: Final = 3600.0
"""Seconds: what would begin while the interpreter ends need not begin any more."""


class _Forks:
    """Owns the moments in which a fork, or the end of the interpreter, would be harmful.

    A child forked while a thread imports a module inherits that import's lock, but not the thread that would
    release it: whatever needs the module in the child waits for ever. And one forked while a thread is half done
    with starting Rheostat would never be governed.

    The end is fatal to a thread that is in native code: OpenSSL cleans up, and a thread that still loads certificates
    crashes the process; an import ends within frames of C++ or Rust, which abort it.
    """

    def __init__(self) -> None:
        self._lock = native.ReentrantLock()
        self.forking = 0
        """The thread (by its native id) that holds others off because it forks."""
        self._quiet_until = 0.0
        self._waited_in_vain = False
        self._is_registered = self._is_ending = False
        self.in_child: list[Callable[[], None]] = []
        """Called first of all in the child of a fork."""

    @contextmanager
    def delaying_forks(self, after: float = 0.0) -> Iterator[None]:
        """One thread at a time, and no fork of another until it is done, nor for `after` seconds, nor the end."""
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self.end)
        # Without the lock rather than never: who has it may wait for this very thread, by an import of the host's.
        lock = self._lock
        patience = 0.0 if native.shares_green_threads() else _PATIENCE
        has_lock = lock.acquire(timeout=_FOR_EVER if self._is_ending else patience)
        try:
            yield
        finally:
            self._quiet_until = max(self._quiet_until, time.monotonic() + after) if after else self._quiet_until
            if has_lock:
                self._waited_in_vain = False
                lock.release()

    def end(self, patience: float = _PATIENCE) -> None:
        """The interpreter ends: wait for that moment, `patience` seconds at most, and keep others from beginning."""
        if not self._is_ending:
            self._is_ending = True
            self._lock.acquire(timeout=patience)

    def before(self) -> None:
        """Wait for the moment; called again in the same fork it does nothing."""
        if self.forking == native.get_native_id():
            return
        # What has it may hang, a handler of the host's log say: that costs the host one wait, not one for each fork.
        if self._lock.acquire(timeout=0.0 if self._waited_in_vain else _PATIENCE):
            self.forking = native.get_native_id()
        else:
            self._waited_in_vain = True
        left = self._quiet_until - time.monotonic()
        if left > 0:
            native.sleep(min(left, _PATIENCE))

    def release(self) -> None:
        """Others need no longer be held off; in the parent, or before the fork where nobody is left."""
        # Another thread may be forking too, and have waited in vain: only who holds the lock lets go of it.
        if self.forking == native.get_native_id():
            self.forking = 0
            self._lock.release()

    def after_in_child(self) -> None:
        self._lock = native.ReentrantLock()
        self.forking = 0
        self._waited_in_vain = self._is_ending = False
        for call in self.in_child:
            call()


FORKS: Final = _Forks()


def hold_off_forks(after: float = 0.0) -> AbstractContextManager[None]:
    """No fork of the host falls within the block, or in the `after` seconds after it: it waits, for a second at most.

    For what a child must not inherit half done. Nor does the end of the interpreter, for what crashes it: native code
    that does not bear it, such as OpenSSL's while it loads certificates.
    """
    return FORKS.delaying_forks(after)
