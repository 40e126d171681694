"""Rheostat at work in this process, made to look at the flags at a moment of our choice."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import rheostat
from rheostat import State, Transition

_PATIENCE: Final = 20.0


class Governed:
    """A reconciler that has read its flags and waits."""

    def __init__(self, config: Path) -> None:
        self._converged = threading.Event()
        self._at = 0.0
        self.reconciler = rheostat.start(config, observers=[self._saw], strict=True)

    def wait_for_flags(self) -> None:
        """Return once it has read the flags for the first time."""
        deadline = time.monotonic() + _PATIENCE
        while not self.reconciler.status().source.available:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no flags: {self.reconciler.status()}")
            time.sleep(0.001)

    def converge(self) -> float:
        """Have it look now; the moment (`time.perf_counter`) of the transition to what the flags ask for."""
        return self.follow(self.reconciler.nudge)

    def follow(self, act: Callable[[], object]) -> float:
        """The moment of the transition that this leads to."""
        self._converged.clear()
        act()
        if not self._converged.wait(_PATIENCE):
            raise TimeoutError(f"no transition: {self.reconciler.status()}")
        return self._at

    def close(self) -> None:
        if not self.reconciler.stop(_PATIENCE):
            raise TimeoutError(f"not stopped: {self.reconciler.status()}")

    def _saw(self, made: Transition) -> None:
        if made.to_state is not State.RESTARTING:
            self._at = time.perf_counter()
            self._converged.set()
