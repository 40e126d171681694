"""When things may happen: deadlines, and the gate that every start has to pass."""

import binascii
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from .desired import Desired, same_settings
from .duration import Duration
from .filepath import FilePath
from .options import InvalidOptions
from .values import Value

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


def splay_of(instance: str, splay: float) -> float:
    """This instance's share of the splay, in seconds: the same each time, spread evenly over a fleet."""
    return binascii.crc32(instance.encode("utf-8", "surrogateescape")) / 2**32 * splay


class StartGate:
    """Owns the question when the next start may be tried."""

    def __init__(self, policy: Policy, instance: str, random: Callable[[], float]) -> None:
        self.policy = policy
        self.instance = instance
        self.random = random
        self.failures = 0
        self._wanted_since = 0.0
        self._last_try = float("-inf")
        self._retry_at = float("-inf")
        self._refused: Mapping[str, Value] | None = None

    def wanted(self, now: float) -> None:
        """The desired state has changed: the splay starts anew, and what was refused for good may be tried again."""
        self._wanted_since = now
        self._refused = None

    def tried(self, now: float) -> None:
        self._last_try = now

    def succeeded(self) -> None:
        self.failures = 0
        self._retry_at = float("-inf")

    def failed(self, now: float) -> None:
        self.failures += 1
        self._retry_at = now + self.policy.backoff.delay(self.failures, self.random)

    def refused(self, settings: Mapping[str, Value]) -> None:
        """A permanent error: these settings are not tried again until the desired state changes."""
        self._refused = settings

    def refuses(self, desired: Desired) -> bool:
        return self._refused is not None and same_settings(self._refused, desired.settings)

    def opens_at(self) -> float:
        """Monotonic seconds from which a start may be tried: cooldown, backoff and splay are over."""
        return max(self._waits().values())

    def waits_for(self) -> str:
        """Which of the three keeps the gate closed longest."""
        return max(self._waits(), key=self._waits().__getitem__)

    def _waits(self) -> Mapping[str, float]:
        return {
            "backoff": self._retry_at,
            "cooldown": self._last_try + self.policy.cooldown,
            "splay": self._wanted_since + splay_of(self.instance, self.policy.splay),
        }
