"""Metrics and events for the OpenTelemetry API, named after its semantic conventions."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from rheostat._core.state import State
from rheostat._report.event import Event
from rheostat._report.status import Snapshot

_SCOPE: Final = "rheostat"
_Observe = Callable[[Snapshot], Iterable[tuple[float, Mapping[str, str]]]]


class Instruments:
    """Gives the figures of this process when they are asked for, and counts what happens."""

    def __init__(self, application: str, instance: str) -> None:
        self._attributes = {"rheostat.application": application, "rheostat.instance": instance}
        self._snapshot = Snapshot()
        meter = get_meter(_SCOPE)
        self._transitions = meter.create_counter(
            "rheostat.profiler.transitions", "{transition}", "Changes of the profiler's state"
        )
        self._adjustments = meter.create_counter(
            "rheostat.profiler.adjustments", "{adjustment}", "Flags that were given something else than asked"
        )
        meter.create_observable_gauge(
            "rheostat.profiler.state",
            [self._observing(_states)],
            "1",
            "1 for the present state, else 0",
        )
        meter.create_observable_counter(
            "rheostat.profiler.cpu.time", [self._observing(_cpu)], "s", "Processor time that sessions have used"
        )
        meter.create_observable_gauge(
            "rheostat.profiler.budget.utilization", [self._observing(_budget)], "1", "The used part of the budget"
        )
        meter.create_observable_gauge(
            "rheostat.profiler.source.stale", [self._observing(_stale)], "1", "1 while the flags are not fresh"
        )

    def on_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def on_event(self, event: Event) -> None:
        fields = event.fields
        if event.name == "transition":
            moved = {"rheostat.state.from": fields["from"], "rheostat.state.to": fields["to"]}
            cause = fields["cause"]
            self._transitions.add(1, {**self._attributes, **moved, "rheostat.cause": cause["kind"]})
            _emit(event, {**self._attributes, **moved, "rheostat.cause": cause["kind"], **_flag(cause)})
        elif event.name == "adjusted":
            self._adjustments.add(1, {**self._attributes, "rheostat.setting": fields["setting"]})

    def _observing(self, observe: _Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
        # The library keeps a callback for good: it must not keep what has ended.
        me = weakref.ref(self)

        def observed(_: CallbackOptions) -> Iterable[Observation]:
            it = me()
            if it is not None and not it._snapshot.closed:
                for value, attributes in observe(it._snapshot):
                    yield Observation(value, {**it._attributes, **attributes})

        return observed


def _states(snapshot: Snapshot) -> Iterable[tuple[float, Mapping[str, str]]]:
    for state in State:
        yield float(snapshot.state is state), {"rheostat.state": str(state)}


def _cpu(snapshot: Snapshot) -> Iterable[tuple[float, Mapping[str, str]]]:
    if snapshot.budget is not None:
        yield snapshot.budget.used, {}


def _budget(snapshot: Snapshot) -> Iterable[tuple[float, Mapping[str, str]]]:
    if snapshot.budget is not None:
        yield 1 - snapshot.budget.left, {}


def _stale(snapshot: Snapshot) -> Iterable[tuple[float, Mapping[str, str]]]:
    yield float(bool(snapshot.source_reason)), {}


def _flag(cause: Mapping[str, Any]) -> Mapping[str, str]:
    """The flag that decided, by the conventions of feature flags."""
    if cause.get("flag") is None:
        return {}
    return {"feature_flag.key": str(cause["flag"]), "feature_flag.result.value": str(cause["new"])}


def _emit(event: Event, attributes: Mapping[str, str]) -> None:
    # Its logs are not stable yet: where they are others, the transition is counted all the same.
    with suppress(ImportError, TypeError):
        from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

        get_logger(_SCOPE).emit(
            LogRecord(
                event_name="rheostat.profiler.transition",
                severity_number=SeverityNumber.INFO,
                body=event.message,
                attributes=attributes,
            )
        )
