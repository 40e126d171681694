"""The gate that every start has to pass."""

import binascii
from collections.abc import Callable, Mapping

from rheostat._contract.values import Value
from rheostat._core.desired import Desired, same_settings
from rheostat._core.policy import Policy


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
        self._splay_ends_at = float("-inf")
        self._last_try = float("-inf")
        self._retry_at = float("-inf")
        self._refused: Mapping[str, Value] | None = None

    def wanted(self, now: float, *, splayed: bool = True) -> None:
        """The desired state has changed: the splay starts anew, and what was refused for good may be tried again.

        Not `splayed` is a change that comes to each process at a moment of its own.
        """
        self._splay_ends_at = now + splay_of(self.instance, self.policy.splay) if splayed else now
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
            "splay": self._splay_ends_at,
        }
