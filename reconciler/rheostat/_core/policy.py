"""The ``policy`` section: deadlines, waits and the lease."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from rheostat._contract.options import Duration, FilePath, InvalidOptions

_LONGEST_DOUBLING = 40

_SHORTEST_REACH = 1.0
"""Seconds."""


class Backoff(NamedTuple):
    """Seconds between tries that fail: doubled each time from `initial` to `max`, less up to half at random."""

    initial: Duration = Duration(1.0)
    max: Duration = Duration(300.0)

    def check(self) -> None:
        """Raises `InvalidOptions`."""
        if self.initial <= 0:
            raise InvalidOptions({"initial": "more than 0 s"})
        if self.max < self.initial:
            raise InvalidOptions({"max": f"at least initial ({self.initial:g} s)"})

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """Seconds to wait after the `failures`-th failure in a row; `random` gives numbers in [0, 1)."""
        doubled: float = self.initial * 2.0 ** min(failures - 1, _LONGEST_DOUBLING)
        return min(doubled, self.max) * (1 - random() / 2)


class Policy(NamedTuple):
    """The ``policy`` section; ``config.example.yaml`` documents each key. Durations are seconds."""

    resync: Duration = Duration(30.0)
    hold_last_good: Duration = Duration(900.0)
    start_deadline: Duration = Duration(10.0)
    stop_deadline: Duration = Duration(10.0)
    exit_deadline: Duration = Duration(2.0)
    start_after: Duration = Duration(2.0)
    backoff: Backoff = Backoff()
    cooldown: Duration = Duration(5.0)
    splay: Duration = Duration(0.0)
    reach: Duration = Duration(300.0)
    kill_switch: FilePath | None = None
    processes: Literal["all", "workers"] = "all"
    fork_policy: Literal["restart", "off"] = "restart"

    def check(self) -> None:
        """Raises `InvalidOptions`."""
        least = {"resync": 1.0, "start_deadline": 0.001, "stop_deadline": 0.001}
        too_small = {name: f"at least {s:g}s" for name, s in least.items() if getattr(self, name) < s}
        if 0 < self.reach < _SHORTEST_REACH:
            too_small["reach"] = f"0 (never), or at least {_SHORTEST_REACH:g}s"
        if too_small:
            raise InvalidOptions(too_small)
