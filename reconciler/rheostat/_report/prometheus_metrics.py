"""Metrics for `prometheus_client`, also in its multiprocess mode, where processes share what they set."""

import time
from functools import cache
from typing import Literal, NamedTuple

from prometheus_client import Counter, Gauge

from rheostat._core.state import State
from rheostat._report.event import Event
from rheostat._report.status import Snapshot

_WHO = ("application", "instance")


class _Registered(NamedTuple):
    state: Gauge
    transitions: Counter
    adjustments: Counter
    cpu: Counter
    budget: Gauge
    stale: Gauge
    stuck: Gauge
    failed: Gauge


@cache
def _registered() -> _Registered:
    """Once for each process: the library's registry is one."""

    def gauge(name: str, text: str, *labels: str, most: bool = False) -> Gauge:
        mode: Literal["livemax", "livesum"] = "livemax" if most else "livesum"
        return Gauge(name, text, [*_WHO, *labels], multiprocess_mode=mode)

    return _Registered(
        state=gauge("rheostat_profiler_state", "Processes in this state", "state"),
        transitions=Counter("rheostat_profiler_transitions", "Changes of state", [*_WHO, "from", "to", "cause"]),
        adjustments=Counter(
            "rheostat_profiler_adjustments", "Flags that were given something else than asked", [*_WHO, "setting"]
        ),
        cpu=Counter("rheostat_profiler_cpu_seconds", "Processor time of sessions, as a budget measures it", _WHO),
        budget=gauge("rheostat_profiler_budget_utilization_ratio", "The used part of the budget", most=True),
        stale=gauge("rheostat_profiler_source_stale", "Processes whose flags are not fresh"),
        stuck=gauge("rheostat_profiler_stuck", "Processes with a call in flight past its deadline"),
        failed=gauge("rheostat_profiler_failed", "Processes with a failure that is not overcome"),
    )


class Instruments:
    """Sets the figures of this process."""

    def __init__(self, application: str, instance: str) -> None:
        self._who = {"application": application, "instance": instance}
        self._metrics = _registered()
        self._used = 0.0

    def on_snapshot(self, snapshot: Snapshot) -> None:
        for state in State:
            is_it = snapshot.state is state and not snapshot.closed
            self._metrics.state.labels(**self._who, state=str(state)).set(is_it)
        self._metrics.stale.labels(**self._who).set(bool(snapshot.source_reason))
        self._metrics.failed.labels(**self._who).set(bool(snapshot.error) or snapshot.health.status == "failed")
        is_stuck = snapshot.call is not None and time.monotonic() >= snapshot.call[2]
        self._metrics.stuck.labels(**self._who).set(is_stuck)
        budget = snapshot.budget
        if budget is not None:
            self._metrics.budget.labels(**self._who).set(1 - budget.left)
            self._metrics.cpu.labels(**self._who).inc(max(0.0, budget.used - self._used))
            self._used = max(self._used, budget.used)

    def on_event(self, event: Event) -> None:
        if event.name == "transition":
            fields = event.fields
            labels = {"from": fields["from"], "to": fields["to"], "cause": fields["cause"]["kind"]}
            self._metrics.transitions.labels(**self._who, **labels).inc()
        elif event.name == "adjusted":
            self._metrics.adjustments.labels(**self._who, setting=event.fields["setting"]).inc()
