"""The bell that a flag source rings when something has changed."""

import threading
import time
from typing import Final

_PATIENCE: Final = 5.0


class Bell:
    """Notes when it was first rung since somebody began to listen."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._at = 0.0

    def ring(self) -> None:
        if not self._rung.is_set():
            self._at = time.perf_counter()
            self._rung.set()

    def listen(self) -> None:
        self._rung.clear()

    def wait(self) -> float:
        """The moment (`time.perf_counter`)."""
        if not self._rung.wait(_PATIENCE):
            raise TimeoutError("the source did not call")
        return self._at
