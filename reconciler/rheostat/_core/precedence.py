"""Who decides: the brakes, the strongest first, and the flags where none of them keeps profiling off."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rheostat._contract.values import Value
from rheostat._core.brakes.budget import PROCESSOR, SIZE
from rheostat._core.brakes.crashes import CRASHED
from rheostat._core.brakes.host import PERMITTED, most
from rheostat._core.brakes.session import SESSION_END, ends_at
from rheostat._core.brakes.share import ROLLED_OUT, TURN
from rheostat._core.brakes.source import BEGINNING, KILL_SWITCH, LEASE, SILENCE
from rheostat._core.case import Brake, Case, Facts, Memory
from rheostat._core.desired import NO_SETTINGS, OFF, Adjustment, Desired
from rheostat._core.knowledge import NEVER_READ, overlay
from rheostat._core.policy import Policy
from rheostat._core.rules import ENABLED, Resolution, Rules, resolve
from rheostat._core.transition import Cause


class Verdict(NamedTuple):
    """The session that ought to run, and who says so: `decided_by` is the word of a brake, None where the flags decide.

    Of the same facts nothing else can come before `until` (monotonic seconds). `asked` is a printable rendition of each
    flag's raw value, so that a change can be named. The session ends at `session_ends_at` by itself. `permits` is how
    many processes of the host may profile at once, where only that is left to be asked, else 0. `words` has
    each brake that is used, with its word, `tuned` the values of the policy's settings.
    """

    desired: Desired = OFF
    adjustments: tuple[Adjustment, ...] = ()
    decided_by: Cause | None = None
    until: float = math.inf
    memory: Memory = Memory()
    asked: Mapping[str, bool | int | float | str | None] = NO_SETTINGS
    session_ends_at: float = math.inf
    permits: int = 0
    flags_say_on: bool = False
    words: Sequence[tuple[str, str | None]] = ()
    tuned: Mapping[str, Value] = NO_SETTINGS


PRECEDENCE: Final = (
    KILL_SWITCH,
    CRASHED,
    BEGINNING,
    LEASE,
    SILENCE,
    SESSION_END,
    ROLLED_OUT,
    TURN,
    PERMITTED,
    SIZE,
    PROCESSOR,
)
"""The strongest first."""

SPREAD: Final = frozenset({TURN.kind, PERMITTED.kind, PROCESSOR.kind})
"""The kinds of brakes that let go of each process at a moment of its own, so that no splay is needed."""

INITIAL: Final = Verdict(decided_by=Cause("source", detail=NEVER_READ.reason))

_RELEASED: Final = {brake.kind: brake.released for brake in PRECEDENCE if brake.kind != "source"}


def decide(rules: Rules, policy: Policy, facts: Facts, memory: Memory) -> Verdict:
    """The session that ought to run. The first brake that keeps profiling off decides, else the flags.

    A layer that never answered, or whose lease has expired, is passed over, but that never turns profiling on: not
    while the layer has only just begun, not if its last word was off, and not if no other layer knows the switch.
    """
    case = considered(rules, policy, facts, memory)
    flags = case.flags
    said = list(brakes(case))
    decider, word = next(((brake, word) for brake, word in said if word is not None), (None, ""))
    is_permitted = decider is None or PRECEDENCE.index(decider) >= PRECEDENCE.index(PERMITTED)
    return Verdict(
        desired=flags.desired if decider is None else OFF,
        adjustments=flags.adjustments if decider is None else (),
        decided_by=None if decider is None else Cause(decider.kind, detail=word or ""),
        until=min(each.until(case) for each in PRECEDENCE),
        memory=case.memory,
        asked=flags.asked,
        session_ends_at=ends_at(case),
        permits=most(case) if flags.desired.on and is_permitted else 0,
        flags_say_on=flags.desired.on,
        words=[(brake.name, word) for brake, word in said if brake.is_used(case)],
        tuned=flags.tuned,
    )


def considered(rules: Rules, policy: Policy, facts: Facts, memory: Memory) -> Case:
    """The case that these facts make, with the memory brought up to them."""
    lease = policy.hold_last_good
    reading = overlay([each for each in facts.layers if each.holds(lease, facts.now)] or facts.layers)
    flags = Resolution(OFF, held=memory.held) if reading is None else resolve(rules, reading, memory.held)
    case = Case(rules, policy, facts, memory._replace(held=flags.held), flags)
    for each in PRECEDENCE:
        case = each.consider(case)
    return case


def brakes(case: Case) -> Iterator[tuple[Brake, str | None]]:
    """Each brake in order, with its word: None where it does not keep profiling off."""
    for each in PRECEDENCE:
        yield each, each.word(case)


def explain(rules: Rules, before: Verdict, after: Verdict) -> Cause:
    """Why `after` differs from `before`: the brake that decides now, else the flag that changed and mattered first."""
    if after.decided_by is not None:
        return after.decided_by
    released = before.decided_by
    if released is not None and released.kind != "source":
        return Cause(released.kind, detail=_RELEASED[released.kind])
    old, new = before.asked, after.asked
    changed = [s for s in rules.all if s.flag is not None and old.get(s.flag) != new.get(s.flag)]
    if not changed:
        return Cause("flag", detail="as the configuration says")
    switched = before.desired.on != after.desired.on
    first = next((s for s in changed if (s.name == ENABLED) == switched), changed[0])
    also = ", ".join(f"{s.flag} too" for s in changed if s is not first and not switched)
    assert first.flag is not None
    return Cause("flag", first.flag, old.get(first.flag), new.get(first.flag), also)
