"""The ``policy`` section: deadlines, waits and the lease."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from rheostat._contract.backend import Parameter
from rheostat._contract.options import Duration, FilePath, InvalidOptions
from rheostat._contract.values import Bytes, Percent, Seconds
from rheostat._core.processes import Processes
from rheostat._core.rules import Limits, Setting

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


_SECONDS = Parameter(Seconds, 0.0, min=0.0)
_BURST = Parameter(Seconds, 10.0, min=1.0)
_SHARE = Parameter(Percent, 0.0, min=0.0, max=100.0)
_TEXT = Parameter(str, "")
_PERCENT = Parameter(float, 100.0, min=0.0, max=100.0)
_BYTES = Parameter(Bytes, 0, min=0)
_COUNT = Parameter(int, 0, min=0, max=10_000)
_TURN = Parameter(Seconds, 600.0, min=1.0)
_CRASHES = Parameter(int, 0, min=0, max=50)
_SOON = Parameter(Seconds, 30.0, min=1.0)

SESSION = "session.max"
ROLLOUT = "rollout.percent"
PER_HOST = "per_host.max"
CRASHES = "crash_guard.times"
BUDGET = "budget.cpu"
MEMORY = "budget.rss"
"""The names of settings without which there is no such brake."""


def _unused(name: str, parameter: Parameter) -> Setting:
    """As it is read where the file says nothing else than the default."""
    limits = (Limits("clamp"), Limits("hard limit", parameter.min, parameter.max))
    return Setting(name, parameter.type, parameter.default, limits=limits)


class SessionPolicy(NamedTuple):
    """The ends of sessions: each one ends `max` seconds after the flags turned it on (0: never).

    Then it is off until the flags are off and on again, or `id` is another value.
    """

    max: Annotated[Setting, _SECONDS] = _unused(SESSION, _SECONDS)
    id: Annotated[Setting, _TEXT] = _unused("session.id", _TEXT)


class Rollout(NamedTuple):
    """A part of the fleet: the instances whose place in it is below `percent`. Another `salt` gives other places."""

    percent: Annotated[Setting, _PERCENT] = _unused(ROLLOUT, _PERCENT)
    by: Literal["instance"] = "instance"
    salt: str = ""


class BudgetPolicy(NamedTuple):
    """The processor time that profiling may use: `cpu` percent of one core for each process (0: no budget).

    `burst` is for how long the whole of it may be used at once. Used up, profiling pauses until that much is there
    again, and goes on at a lower rate; or it stops, until the flags are off and on again. That is also the end of a
    session with which the process has grown by more than `rss` bytes (0: no budget).
    """

    cpu: Annotated[Setting, _SHARE] = _unused(BUDGET, _SHARE)
    burst: Annotated[Setting, _BURST] = _unused("budget.burst", _BURST)
    rss: Annotated[Setting, _BYTES] = _unused(MEMORY, _BYTES)
    action: Literal["reduce", "stop"] = "reduce"


class PerHost(NamedTuple):
    """A part of a host's processes: `max` of them profile at once (0: all), each for a `turn` while others wait.

    Those are counted together that share the folder `dir`, by default the state folder.
    """

    max: Annotated[Setting, _COUNT] = _unused(PER_HOST, _COUNT)
    turn: Annotated[Setting, _TURN] = _unused("per_host.turn", _TURN)
    dir: FilePath | None = None


class CrashGuard(NamedTuple):
    """Settings with which `times` processes in a row (0: no guard) died `within` seconds of a start stay off."""

    times: Annotated[Setting, _CRASHES] = _unused(CRASHES, _CRASHES)
    within: Annotated[Setting, _SOON] = _unused("crash_guard.within", _SOON)


class DutyCycle(NamedTuple):
    """A part of the time: `on` seconds of `every` (0: all of them), each instance at another moment.

    The moments are those of the wall clock, so that they are spread over a fleet whenever its processes started.
    """

    on: Annotated[Setting, _SECONDS] = _unused("duty_cycle.on", _SECONDS)
    every: Annotated[Setting, _SECONDS] = _unused("duty_cycle.every", _SECONDS)
    salt: str = ""

    def check(self) -> None:
        """Raises `InvalidOptions`."""
        if self.on.flag is None and self.every.flag is None:
            on, every = self.on.default, self.every.default
            assert isinstance(on, float)
            assert isinstance(every, float)
            if not 0 < on <= every:
                raise InvalidOptions({"on": f"more than 0 s, and at most every ({every:g} s)"})


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
    processes: Processes = Processes()
    fork_policy: Literal["restart", "off"] = "restart"
    session: SessionPolicy = SessionPolicy()
    rollout: Rollout = Rollout()
    duty_cycle: DutyCycle = DutyCycle()
    per_host: PerHost = PerHost()
    budget: BudgetPolicy = BudgetPolicy()
    crash_guard: CrashGuard = CrashGuard()

    @property
    def tunables(self) -> tuple[Setting, ...]:
        """The settings of the policy that are used; they may come from flags like those of the backend."""
        known = (self.session, self.rollout, self.duty_cycle, self.per_host, self.budget, self.crash_guard)
        return tuple(each for section in known for each in section if isinstance(each, Setting) and each not in _UNUSED)

    def check(self) -> None:
        """Raises `InvalidOptions`."""
        least = {"resync": 1.0, "start_deadline": 0.001, "stop_deadline": 0.001}
        too_small = {name: f"at least {s:g}s" for name, s in least.items() if getattr(self, name) < s}
        if 0 < self.reach < _SHORTEST_REACH:
            too_small["reach"] = f"0 (never), or at least {_SHORTEST_REACH:g}s"
        if too_small:
            raise InvalidOptions(too_small)


_UNUSED = (*SessionPolicy(), *Rollout(), *DutyCycle(), *PerHost(), *BudgetPolicy(), *CrashGuard())
