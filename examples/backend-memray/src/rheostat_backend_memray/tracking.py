"""The one tracker that memray lets be active in a process."""

import os
from collections.abc import Callable
from typing import Any, Final

from rheostat.plugins import hold_off_forks


class _Tracking:
    """Owns the tracker, from its beginning to its end, be that in a forked child."""

    def __init__(self) -> None:
        self._tracker: Any = None
        self._watches_forks = False

    def begin(self, make: Callable[[], Any]) -> None:
        """Make a tracker and activate it. Raises what memray raises; then none of ours is active."""
        if not self._watches_forks:
            os.register_at_fork(after_in_child=self._let_go)
            self._watches_forks = True
        tracker = make()
        try:
            with hold_off_forks():
                tracker.__enter__()
                self._tracker = tracker
        finally:
            # One that is refused has its file open for as long as the traceback refers to it.
            del tracker

    def end(self) -> None:
        """Write what was found."""
        with hold_off_forks():
            self._let_go()

    def _let_go(self) -> None:
        # In a child memray does not track, but what it has put into `threading` stays, and it would never begin there.
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.__exit__(None, None, None)


TRACKING: Final = _Tracking()
