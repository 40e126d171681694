"""The control loop: look at the flags, compare with what runs, call the backend, take its outcome.

Level-triggered and idempotent: each step looks at the whole truth and converges, so nothing depends on having seen
every change. The loop owns no thread, clock or randomness; whoever steps it brings them.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from rheostat._contract.backend import UNKNOWN_HEALTH, Backend, Health, PermanentError, Probing
from rheostat._contract.flagsource import FlagSource
from rheostat._contract.identity import Identity
from rheostat._contract.values import Value
from rheostat._control.delivery import Delivery
from rheostat._control.history import History
from rheostat._control.operation import Call, CallSlot
from rheostat._control.survey import Means, Survey
from rheostat._control.watch import NOTHING_SEEN, Seen, Watch
from rheostat._core.budget import Spending
from rheostat._core.desired import OFF, Desired, same_settings
from rheostat._core.knowledge import NEVER_READ
from rheostat._core.next_step import Act, Session, next_step
from rheostat._core.policy import Policy
from rheostat._core.precedence import INITIAL, SPREAD, Verdict, decide, explain
from rheostat._core.rules import Rules
from rheostat._core.start_gate import StartGate
from rheostat._core.state import State, Trigger
from rheostat._core.transition import Cause, Observer
from rheostat._host.calls import Calls, Returned
from rheostat._host.meter import Metering
from rheostat._host.scribe import Scribe
from rheostat._host.state_folder import StateFolder
from rheostat._report.journal import Journal
from rheostat._report.status import BudgetStatus, Snapshot

_FIRST_PROBE: Final = 1.0
"""Seconds from a start to the first look whether it really samples."""


class Loop:
    """Owns convergence: everything happens in `step`, which the control thread repeats."""

    def __init__(
        self,
        *,
        rules: Rules,
        policy: Policy,
        identity: Identity,
        sources: Mapping[str, FlagSource],
        backend: Backend,
        calls: Calls,
        looks: Calls | None = None,
        journal: Journal,
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        wake: Callable[[], None],
        observers: Sequence[Observer] = (),
        inherited: State | None = None,
        meter: Metering | None = None,
        folder: StateFolder | None = None,
        scribe: Scribe | None = None,
        published: Callable[[Snapshot], object] = bool,
    ) -> None:
        """`sources` are the layers by name; `inherited` is the parent's state if this is the child of a fork.

        `calls` makes the backend's calls, `looks` the looks at its server, if there are to be any. `meter` measures
        what sessions use, where there is a budget; `folder` is for what outlives the process, and
        `scribe` writes it; `published` is told each snapshot.
        """
        self._rules = rules
        self._policy = policy
        self._identity = identity
        self._backend = backend
        self._journal = journal
        self._clock = clock
        self._random = random

        self._history = History(inherited, journal, observers, self._publish)
        self._inherited = inherited
        self._slot = CallSlot(calls, journal, wake)
        self._gate = StartGate(policy, identity.instance, random)
        self._delivery = Delivery(backend, policy.reach, looks, journal, wake, random)

        self._watch = Watch(sources, rules.wanted, policy.kill_switch, journal)
        self._seen = NOTHING_SEEN
        used = [each.name for each in rules.tunables]
        self._survey = Survey(Means(used, policy, wall, meter, folder, scribe), identity, journal)
        self._verdict = INITIAL._replace(memory=self._survey.remembered(clock()))
        self._cause = Cause("source", detail=NEVER_READ.reason)

        self._session = Session()
        self._next: Act = next_step(State.STOPPED, OFF, self._session, self._gate, closing=False)
        self._health = UNKNOWN_HEALTH
        self._error = ""

        self._published = published
        self._published_at = clock()
        self._moved_at: float | None = None
        self._has_moved = False
        self._told_to_close = False
        self._closing = False
        self._is_last_stop = False
        self._changed = True
        self.snapshot = Snapshot(pid=identity.pid, source_reason=NEVER_READ.reason)

    def close(self) -> None:
        """From now on only stop; `finished` tells when that is done. May be called from any thread."""
        self._told_to_close = True

    @property
    def state(self) -> State:
        return self._history.state

    @property
    def is_idle(self) -> bool:
        """No call of the backend is in flight, nor a look at its server, nor a file that is written."""
        return self._slot.is_idle and not self._delivery.is_looking and self._survey.is_idle

    @property
    def finished(self) -> bool:
        """Closed, and nothing is in flight: the session has been stopped, or refused to be."""
        return (
            self._told_to_close
            and self._slot.is_idle
            and (self._session.gave_up or self._history.state is State.STOPPED)
        )

    def step(self) -> float:
        """Look, converge, and say for how many seconds nothing needs to be done if nobody calls."""
        # Once for the whole step: another thread may say it between two looks at it.
        closing = self._told_to_close
        self._changed |= closing is not self._closing
        self._closing = closing
        if closing:
            self._delivery.end()
        if self._inherited is not None:
            self._leave_parent(self._inherited)
        # Looking comes first: what follows an outcome, a restart's start above all, has to be what is wanted now.
        self._look(self._clock())
        self._take_outcomes()
        self._changed |= self._delivery.step(self._clock())
        self._survey.step(self._clock())
        self._converge(self._clock())
        now = self._clock()
        if self.finished:
            self._survey.close()
        if self._changed:
            self._publish()
        return self._rest(now)

    def _leave_parent(self, inherited: State) -> None:
        self._inherited = None
        if inherited is not State.STOPPED:
            self._fire(Trigger.FORKED, Cause("fork", detail="this process was forked"), None)

    def _look(self, now: float) -> None:
        if self._closing:
            return
        seen = self._watch.look(now)
        if seen is self._seen and now < self._verdict.until and not self._has_moved:
            measured = self._survey.measured(self._verdict, now, runs=self._runs, rate=self._rate)
            if measured is not None:
                is_dated = measured is not self._verdict and now >= self._published_at + self._policy.resync
                self._changed |= is_dated
                self._verdict = measured
                return
        self._seen, self._has_moved = seen, False
        self._changed = True
        self._follow(self._decided(seen, now), now)

    @property
    def _runs(self) -> bool:
        return self._history.state is not State.STOPPED

    @property
    def _rate(self) -> Value | None:
        return self._session.settings.get(self._rules.rate) if self._runs else None

    def _decided(self, seen: Seen, now: float) -> Verdict:
        facts = self._survey.facts(seen, now, runs=self._runs, rate=self._rate)
        memory = self._verdict.memory
        verdict = decide(self._rules, self._policy, facts, memory)
        permit = self._survey.permit(verdict, now, runs=self._runs or not self._slot.is_idle)
        return verdict if permit is None else decide(self._rules, self._policy, facts._replace(permit=permit), memory)

    def _follow(self, verdict: Verdict, now: float) -> None:
        before, self._verdict = self._verdict, verdict
        self._survey.decided(before, verdict, now)
        if verdict.adjustments != before.adjustments:
            self._journal.adjusted(verdict.adjustments)
        desired, was = verdict.desired, before.desired
        if desired.on == was.on and same_settings(desired.settings, was.settings):
            return
        self._cause = explain(self._rules, before, verdict)
        self._gate.wanted(now, splayed=self._cause.kind not in SPREAD)
        self._session = self._session._replace(stops_at_once=not desired.on)
        if not desired.on:
            self._error = self._error if self._session.stop_failures else ""

    @property
    def _desired(self) -> Desired:
        return OFF if self._closing else self._verdict.desired

    def _converge(self, now: float) -> None:
        if self._slot.call is not None:
            self._changed |= self._slot.check_deadline(now)
            return
        act = next_step(self._history.state, self._desired, self._session, self._gate, closing=self._closing)
        # The status says what is waited for.
        self._changed |= act != self._next
        self._next = act
        if now < act.at:
            return
        if act.kind == "start":
            self._start(now)
        elif act.kind == "stop":
            self._stop(act.trigger, self._closing_cause(), now)
        elif act.kind == "probe":
            self._probe(now)

    def _closing_cause(self) -> Cause:
        return Cause("close", detail="Rheostat was closed") if self._closing else self._cause

    def _start(self, now: float) -> None:
        settings = self._desired.settings
        self._gate.tried(now)
        call = Call("start", now, now + self._policy.start_deadline, Trigger.STARTED, self._cause, settings)
        start = partial(self._backend.start, settings)
        self._call(call, self._survey.starting(start, settings))

    def _stop(self, trigger: Trigger, cause: Cause, now: float) -> None:
        self._session = self._session._replace(stop_trigger=trigger, stops_at_once=False)
        self._is_last_stop = self._closing
        call = Call("stop", now, now + self._policy.stop_deadline, trigger, cause)
        self._call(call, self._survey.stopping(self._backend.stop, closing=self._closing))
        if trigger is Trigger.RETUNE and self._history.state is State.RUNNING:
            self._fire(Trigger.RETUNE, cause, None)

    def _probe(self, now: float) -> None:
        backend = self._backend
        if isinstance(backend, Probing):
            call = Call("probe", now, now + self._policy.start_deadline, Trigger.DIED, self._cause)
            self._call(call, backend.probe)

    def _call(self, call: Call, function: Callable[[], object]) -> None:
        self._changed = True
        self._slot.make(call, function)

    def _take_outcomes(self) -> None:
        while (taken := self._slot.take()) is not None:
            call, outcome = taken
            self._changed = True
            ended = {"start": self._start_ended, "stop": self._stop_ended, "probe": self._probe_ended}
            ended[call.name](call, outcome, self._clock())

    def _start_ended(self, call: Call, outcome: Returned, now: float) -> None:
        if outcome.error is not None:
            self._start_failed(call, outcome.error, outcome.took, now)
            return
        if not isinstance(self._backend, Probing):
            self._gate.succeeded()
        self._journal.recover("recovered", "the profiler could be started again", about="start")
        self._error = ""
        self._health = UNKNOWN_HEALTH
        probe_at = now + _FIRST_PROBE if isinstance(self._backend, Probing) else math.inf
        self._session = Session(call.settings, probe_at)
        self._delivery.begin(now)
        self._survey.began(call.settings, float(self._verdict.tuned.get("crash_guard.within", 0.0)), now)
        self._fire(Trigger.STARTED, call.cause, outcome.took)

    def _start_failed(self, call: Call, error: BaseException, took: float, now: float) -> None:
        self._gate.failed(now)
        self._survey.ended()
        self._error = f"start failed: {self._journal.describe(error)}"
        after = f"it is tried again in {max(0.0, self._gate.opens_at() - now):.0f} s"
        if isinstance(error, PermanentError):
            self._gate.refused(call.settings)
            after = "it is not tried again until the flags change"
        # What varies from one try to the next stays out of the text, so that repeats can be folded.
        self._journal.complain(
            "start_failed",
            f"the profiler could not be started with {_in_words(call.settings)}: {self._journal.describe(error)}",
            about="start",
            also=f"; the service is not affected, {after}",
            failures=self._gate.failures,
            next=after,
        )
        if self._history.state is State.RESTARTING:
            self._fire(Trigger.FAILED, Cause("backend", detail=self._error), took)

    def _stop_ended(self, call: Call, outcome: Returned, now: float) -> None:
        if outcome.error is not None:
            self._stop_failed(outcome.error, now)
            return
        self._journal.recover("recovered", "the profiler could be stopped", about="stop")
        self._error = "" if call.trigger is not Trigger.DIED else self._error
        self._session = Session()
        self._survey.ended()
        desired = self._desired
        if self._history.state is State.RUNNING:
            self._fire(call.trigger if call.trigger is Trigger.DIED else Trigger.STOPPED, call.cause, outcome.took)
        elif desired.on and not self._gate.refuses(desired):
            self._start(now)
        else:
            self._fire(Trigger.STOPPED, self._closing_cause(), outcome.took)

    def _stop_failed(self, error: BaseException, now: float) -> None:
        failures = self._session.stop_failures + 1
        retry_at = now + self._policy.backoff.delay(failures, self._random)
        self._session = self._session._replace(
            stop_failures=failures, stop_retry_at=retry_at, gave_up=self._is_last_stop
        )
        self._error = f"stop failed: {self._journal.describe(error)}"
        after = "Rheostat is closing" if self._is_last_stop else f"the stop is tried again in {retry_at - now:.0f} s"
        self._journal.complain(
            "stop_failed",
            f"the profiler could not be stopped: {self._journal.describe(error)}",
            about="stop",
            level=logging.ERROR,
            also=f"; it goes on profiling, {after}",
            failures=failures,
        )

    def _probe_ended(self, call: Call, outcome: Returned, now: float) -> None:
        self._session = self._session._replace(probe_at=now + self._policy.resync)
        health = outcome.result
        if outcome.error is not None:
            health = Health("unknown", f"the probe failed: {self._journal.describe(outcome.error)}")
        elif not isinstance(health, Health):
            health = Health("unknown", f"the probe gave {type(health).__name__} instead of a Health")
        self._health = health = Health(health.status, self._journal.clean(str(health.detail)))
        if health.status == "healthy":
            self._gate.succeeded()
        if health.status != "failed":
            return
        self._error = f"the session does not sample: {health.detail}"
        self._gate.failed(now)
        self._cause = Cause("backend", detail=self._error)
        if not self._closing:
            # The agent may still believe in its session: it has to be stopped before another can start.
            self._stop(Trigger.DIED, self._cause, now)

    def _fire(self, trigger: Trigger, cause: Cause, took: float | None) -> None:
        if trigger not in (Trigger.STARTED, Trigger.RETUNE):
            self._delivery.end()
        self._moved_at = self._clock()
        self._history.move(trigger, cause, self._session.settings, self._verdict.adjustments, took)
        # What a session uses is of interest from its start on.
        self._has_moved = self._survey.follows_sessions

    def _rest(self, now: float) -> float:
        if self._closing:
            call = self._slot.call
            return self._policy.resync if call is None or self._slot.stuck else max(0.0, call.deadline - now)
        if self._has_moved:
            return 0.0
        return max(0.0, min(now + self._policy.resync, *self._appointments(now)) - now)

    def _appointments(self, now: float) -> Iterable[float]:
        yield now + self._watch.interval()
        yield self._delivery.due_at
        yield self._survey.due_at
        yield self._survey.look_at(self._verdict, now, runs=self._runs)
        yield self._verdict.until
        for layer in self._seen.layers:
            if layer.retry_at is not None and layer.retry_at > now:
                yield layer.retry_at
        if self._slot.call is None:
            yield self._next.at
        elif not self._slot.stuck:
            yield self._slot.call.deadline

    def _publish(self) -> None:
        self._changed = False
        self._published_at = self._clock()
        snapshot = self._snapshot()
        self._published(snapshot)
        self.snapshot = snapshot

    def _snapshot(self) -> Snapshot:
        call = self._slot.call
        return Snapshot(
            state=self._history.state,
            pid=self._identity.pid,
            seq=self._history.seq,
            desired=self._desired,
            settings=self._session.settings,
            adjustments=self._verdict.adjustments,
            source_reason=self._seen.trouble,
            stale_since=self._seen.stale_since,
            retry_at=self._seen.retry_at,
            call=None if call is None else (call.name, call.since, call.deadline),
            waits_for=self._next.waits_for if call is None else "",
            waits_until=self._next.at,
            last_transition=self._history.last,
            health=self._health,
            error=self._error,
            delivery=self._delivery.health,
            session_ends_at=self._verdict.session_ends_at,
            budget=_budget_status(self._verdict.memory.spending),
            moved_at=self._moved_at,
            flags_say_on=self._verdict.flags_say_on,
            words=self._verdict.words,
        )


def _budget_status(spending: Spending | None) -> BudgetStatus | None:
    if spending is None:
        return None
    left = max(0.0, spending.level / spending.budget.most)
    return BudgetStatus(spending.budget.share, spending.cost, left, spending.used)


def _in_words(settings: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "its defaults"
