"""Time that passes only when told."""


class VirtualClock:
    """Monotonic seconds; set `now` to let time pass."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
