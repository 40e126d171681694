"""Importing in a background thread of a process that may fork at any moment."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PATIENCE: Final = 1.0
"""Seconds that a fork waits for an import. More would hold up the host, whose own import may be waited for."""


class _Imports:
    """Owns the moments in which a fork would be harmful.

    A child forked while a thread imports a module inherits that import's lock, but not the thread that would
    release it: whatever needs the module in the child waits for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held_for_fork = False

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        lock = self._lock
        with lock:
            yield

    def before_fork(self) -> None:
        self._held_for_fork = self._lock.acquire(timeout=_PATIENCE)

    def after_fork_in_parent(self) -> None:
        if self._held_for_fork:
            self._held_for_fork = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def watch_forks(self) -> None:
        os.register_at_fork(
            before=self.before_fork,
            after_in_parent=self.after_fork_in_parent,
            after_in_child=self.after_fork_in_child,
        )


IMPORTS: Final = _Imports()
