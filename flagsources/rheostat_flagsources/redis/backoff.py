"""Ever longer pauses between attempts that fail."""

import os
from typing import Final

_FIRST: Final = 1.0
_LONGEST: Final = 60.0


class Backoff:
    """Twice as long each time, less up to half at random, so that a fleet does not come back all at once."""

    def __init__(self, poll_interval: float) -> None:
        self._first = min(_FIRST, poll_interval)
        self._failures = 0

    def next(self) -> float:
        """Seconds until the next attempt, now that one has failed."""
        delay = min(self._first * 2.0 ** min(self._failures, 30), _LONGEST)
        self._failures += 1
        return delay * (1.0 - random() / 2)

    def reset(self) -> None:
        self._failures = 0


def random() -> float:
    """In [0, 1). The application's `random` is left alone: it may be seeded."""
    return os.urandom(1)[0] / 256
