"""The journal: tells each event to the listeners, and folds repeats on the way to the log."""

import logging
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

from rheostat._contract.secret import MASK
from rheostat._contract.text import LONGEST_LINE, shorten, text_of
from rheostat._core.desired import Adjustment
from rheostat._core.transition import Transition
from rheostat._host.execution import current
from rheostat._report.event import Event, EventName, Listener
from rheostat._report.sinks import Fields, Sink

REPEAT_AFTER: Final = 60.0
"""Seconds before the same complaint about the same thing is logged again."""

_SHORTEST_SECRET: Final = 5
_REMEMBERED: Final = 256
_DISTINCT: Final = 8


class _Complaint:
    def __init__(self, at: float) -> None:
        self.at = at
        self.repeats = 0


class _Subject:
    """One subject of complaints: those said, and whether the last word was one."""

    def __init__(self) -> None:
        self.said: dict[str, _Complaint] = {}
        self.is_open = False


class Journal:
    """Owns what is said and how often; masks secrets. Nothing that goes wrong in it reaches its caller.

    `secrets` may grow after the journal was made. `clock` gives monotonic seconds. `listeners` hear of each event, also
    of those that are not said again; the log is what the sink makes of the others.
    """

    def __init__(
        self,
        sink: Sink,
        clock: Callable[[], float],
        secrets: Iterable[str] = (),
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.sink = sink
        self._listeners = listeners
        self.clock = clock
        self.secrets = secrets
        self.who: Fields = {}
        """Fields of every record: `Config.who`, once a configuration has been read."""
        self.metrics: Listener | None = None
        """Hears of each event, too; raises nothing."""
        self._subjects: dict[str, _Subject] = {}
        self._adjusted: dict[Adjustment, None] = {}

    def say(self, level: int, event: EventName, message: str, **fields: Any) -> None:
        self._tell(event, level, message, "", fields)
        self._write(level, event, message, fields)

    def _tell(self, event: EventName, level: int, message: str, about: str, fields: Fields) -> None:
        """Without a lock: the listeners are the application's code."""
        if self._listeners or self.metrics is not None:
            told = Event(event, level, self.mask(message), about, MappingProxyType(self.masked({**self.who, **fields})))
            if self.metrics is not None:
                self.metrics(told)
            if self._listeners:
                current().tell(lambda: self._tell_listeners(told))

    def _tell_listeners(self, told: Event) -> None:
        for listener in self._listeners:
            try:
                listener(told)
            except BaseException as error:
                self._say_listener_failed(listener, error)

    def _say_listener_failed(self, listener: Listener, error: BaseException) -> None:
        """In the log alone: it would fail again if it heard of it."""
        about = f"listener {id(listener)}"
        if about not in self._subjects:
            self._subjects[about] = _Subject()
            text = f"on_event raised: {self.describe(error)}; the service and its profiler are not affected"
            self._write(logging.WARNING, "observer_failed", text, {})

    def _write(self, level: int, event: EventName, message: str, fields: Fields) -> None:
        try:
            self.sink.write(level, event, self.mask(message), self.masked({**self.who, **fields}))
        # A host's handler or filter may raise anything; a log line is not worth the control thread.
        except BaseException:
            return

    def invalid(self, problems: Iterable[object], outcome: str = "the service runs unprofiled") -> None:
        """One ERROR with every problem of a configuration, and what becomes of the service."""
        lines = [str(each) for each in problems]
        text = f"the configuration cannot be used, {outcome}:\n" + "\n".join(lines)
        self.say(logging.ERROR, "invalid_config", text, problems=lines)

    def transition(self, made: Transition) -> None:
        self.say(
            logging.INFO,
            "transition",
            str(made),
            seq=made.seq,
            **{"from": str(made.from_state), "to": str(made.to_state)},
            trigger=str(made.trigger),
            cause=made.cause._asdict(),
            settings=dict(made.settings),
            adjustments=[each._asdict() for each in made.adjustments],
            duration_ms=made.duration_ms,
        )

    def adjusted(self, adjustments: Iterable[Adjustment]) -> None:
        """Log each distinct adjustment once, but of a setting that goes on being adjusted differently one a minute."""
        for each in adjustments:
            if each not in self._adjusted:
                if len(self._adjusted) >= _REMEMBERED:
                    del self._adjusted[next(iter(self._adjusted))]
                self._adjusted[each] = None
                self.complain("adjusted", f"adjusted {each}", about=f"adjusted {each.setting}", **each._asdict())

    def complain(
        self,
        event: EventName,
        message: str,
        *,
        about: str,
        level: int = logging.WARNING,
        also: str = "",
        **fields: Any,
    ) -> None:
        """Log what keeps going wrong: at once when it is new, then at most once a minute, with a count.

        What varies from one time to the next belongs into `also`, or the repeats are not recognised.
        """
        self._tell(event, level, message + also, about, fields)
        now = self.clock()
        subject = self._subjects.setdefault(about, _Subject())
        said = subject.said
        last = said.get(message)
        if last is None and len(said) >= _DISTINCT:
            # Texts that differ each time are one cause: the last one said stands for all.
            last = max(said.values(), key=lambda each: each.at)
        if last is not None and now - last.at < REPEAT_AFTER:
            last.repeats += 1
            return
        times = f" ({last.repeats} more times since)" if last is not None and last.repeats else ""
        if len(said) >= _DISTINCT and message not in said:
            del said[min(said, key=lambda each: said[each].at)]
        said[message] = _Complaint(now)
        subject.is_open = True
        self._write(level, event, message + also + times, fields)

    def once(self, event: EventName, message: str, *, about: str, level: int = logging.WARNING) -> None:
        """Log what is wrong the first time only."""
        if about not in self._subjects:
            self.complain(event, message, about=about, level=level)

    def recover(self, event: EventName, message: str, *, about: str, flaps: bool = False) -> None:
        """Log that something complained about is well again; otherwise nothing.

        What `flaps` may fail again in a second: its complaints are not forgotten, so that they too are said once a
        minute.
        """
        subject = self._subjects.get(about)
        if subject is None:
            return
        was_open, subject.is_open = subject.is_open, False
        if not flaps or all(self.clock() - each.at >= REPEAT_AFTER for each in subject.said.values()):
            del self._subjects[about]
        if was_open:
            self._tell(event, logging.INFO, message, about, {})
            self._write(logging.INFO, event, message, {})

    def describe(self, error: BaseException) -> str:
        """An exception in one short line without secrets."""
        return self.clean(text_of(error))

    def clean(self, text: str) -> str:
        """Foreign text, in one short line without secrets, which are masked before anything is cut."""
        return shorten(self.mask(text), LONGEST_LINE)

    def mask(self, text: str) -> str:
        # The longest first: one may begin like another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, MASK)
        return text

    def masked(self, value: Any) -> Any:
        """Plain data with its texts masked, however deep."""
        if not any(self.secrets):
            return value
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {key: self.masked(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.masked(each) for each in value]
        return value
