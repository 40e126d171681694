"""OpenFeature: the provider that the application has set, or one for Rheostat alone."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final

from rheostat.plugins import (
    Duration,
    HostObject,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    SourceUnavailable,
    VendorLog,
    import_vendor,
    is_inherited,
)

REQUIREMENT: Final = "rheostat[openfeature]"
LOGGERS: Final = ("openfeature", "openfeature.contrib")
THREAD_NAME: Final = "rheostat-openfeature"

NO_OP: Final = "NoOpProvider"
"""The SDK's own, which stands for a provider that was never set."""

_UNTIL_EVENTS_COME: Final = 1.0
"""Seconds between looks as long as no event has ever come: in a forked child none may."""

_UNTIL_ERROR_IS_TOLD: Final = 0.2
_LAST_WORDS: Final = 1.0
"""The most seconds that a provider's threads are waited for at the end."""

_GENERAL: Final = "GENERAL"
_FOLLOWS: Final = ": it gives back any default; undefined, off, or no data"

_EVENTS: Final = ("PROVIDER_READY", "PROVIDER_ERROR", "PROVIDER_STALE", "PROVIDER_CONFIGURATION_CHANGED")

# Two defaults for each type: an answer that follows the default is not the flag's.
_Defaults = tuple[Any, Any]
_ASKED_AS: Final[Mapping[str, _Defaults]] = {
    "boolean": (False, True),
    "integer": (-987654321, -987654322),
    "float": (-987654321.5, -987654322.5),
    "string": ("\0", "\0\0"),
}
_KINDS: Final[Mapping[type, tuple[str, ...]]] = {
    bool: ("boolean",),
    int: ("integer", "float"),
    float: ("float", "integer"),
    str: ("string",),
    object: ("boolean", "integer", "float", "string"),
}

_NOTHING: Final = Reading({})

_MOST_EVENTS: Final = 100
"""So many are remembered one by one; more of them are about all flags."""

_clients: dict[tuple[int, str], Any] = {}
"""By process and domain. The SDK keeps every client that has ever had a handler, so there is one of each."""


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class OpenFeatureOptions:
    """The ``source`` section; ``config.example.yaml`` documents each key."""

    provider: HostObject | None = None
    domain: str = "rheostat"
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    poll_interval: Duration = Duration(30.0)
    start_wait: Duration = Duration(5.0)

    def __post_init__(self) -> None:
        wrong = {}
        if not self.domain:
            wrong["domain"] = "the name of an OpenFeature domain"
        for name in ("poll_interval", "start_wait"):
            if getattr(self, name) < 0.1:
                wrong[name] = "at least 100ms"
        if wrong:
            raise InvalidOptions(wrong)


class OpenFeatureSource:
    """Asks the provider in a thread of its own: some providers ask a server for each evaluation."""

    Options: ClassVar[type] = OpenFeatureOptions

    def __init__(self, options: OpenFeatureOptions, identity: Identity) -> None:
        self._options = options
        self._identity = identity
        self._domain = options.domain
        self._called = "the provider"
        self._is_importing = True
        self._log = VendorLog(*LOGGERS, ours=self._works_for_us)
        self._changed: Callable[[], None] = lambda: None
        self._wanted: Mapping[str, type] | None = None
        self._opened_at = 0.0
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: Any = None
        self._context: Any = None
        self._handlers: list[tuple[Any, Callable[[Any], None]]] = []
        self._events_come = False
        self._to_evaluate: deque[frozenset[str] | None] = deque()
        """The flags that each event names, None where it names none or means all."""
        self._evaluated: Reading | None = None
        self._all_due_at = 0.0
        """When all flags are to be evaluated again, whatever the events name (monotonic seconds)."""
        self._stale_since: float | None = None
        self._last_error = ""
        self._error_told = threading.Event()
        self._provider: Any = None
        self._others: frozenset[threading.Thread] | None = None
        self._providers_threads: frozenset[threading.Thread] = frozenset()
        self._busy_since: float | None = None
        self._found: Reading | SourceUnavailable = NotReady("the provider has not answered yet")

    @property
    def poll_interval(self) -> float | None:
        # It calls, but a provider that hangs has to be noticed.
        return self._options.start_wait

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._opened_at = time.monotonic()
        self._log.attach()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self._thread is None:
            self._wanted = wanted
            self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
            self._thread.start()
        if self._is_importing:
            raise self._not_ready("openfeature is still being imported")
        busy_since, found = self._busy_since, self._found
        if busy_since is not None and time.monotonic() - busy_since >= self._options.start_wait:
            raise SourceUnavailable(f"{self._called} does not answer")
        if isinstance(found, Reading):
            return found
        raise self._not_ready(found.reason) if isinstance(found, NotReady) else SourceUnavailable(found.reason)

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread is None:
            self._log.detach()
        else:
            self._thread.join(0.3)

    def _work(self) -> None:
        try:
            with self._log.speaking():
                self._repeat()
        finally:
            self._let_go()
            self._hear_out()
            self._log.detach()

    def _repeat(self) -> None:
        while True:
            self._wake.clear()
            if self._closed.is_set():
                return
            self._busy_since = began = time.monotonic()
            try:
                self._tell(self._ask())
            except SourceUnavailable as unavailable:
                self._tell(unavailable)
            # A provider may raise anything, and in this thread nobody else would hear of it.
            except BaseException as error:
                self._tell(SourceUnavailable(f"{type(error).__name__}: {error}"))
            finally:
                self._busy_since = None
            if time.monotonic() - began >= self._options.start_wait:
                # It was taken for dead meanwhile.
                self._changed()
            self._wake.wait(self._pause())

    def _pause(self) -> float:
        # As long as there are no flags it is not only an event that may bring them: a module of the application's, say.
        is_told = self._events_come and isinstance(self._found, Reading)
        return self._options.poll_interval if is_told else min(_UNTIL_EVENTS_COME, self._options.poll_interval)

    def _tell(self, found: "Reading | SourceUnavailable") -> None:
        before, self._found = self._found, found
        if isinstance(found, Reading) and isinstance(before, Reading) and found.is_same_as(before):
            self._found = before
        elif not _says_the_same(found, before):
            self._changed()

    def _ask(self) -> Reading:
        if self._client is None:
            self._connect()
        if self._options.provider is not None and self._provider is None:
            self._install(self._options.provider)
        stale = self._check_status()
        return Reading({}, stale_since=stale) if stale is not None else self._evaluate()

    def _connect(self) -> None:
        try:
            api = import_vendor("openfeature.api", REQUIREMENT)
            event = import_vendor("openfeature.event", REQUIREMENT).ProviderEvent
            context = import_vendor("openfeature.evaluation_context", REQUIREMENT)
        finally:
            # It takes seconds in a busy process, which are not the provider's.
            self._busy_since = self._opened_at = time.monotonic()
            self._is_importing = False
        identity = self._identity
        self._context = context.EvaluationContext(
            targeting_key=identity.instance, attributes=identity.attributes(self._options.attributes)
        )
        if self._options.provider is not None:
            # What is set for a domain can be replaced but never unset: it must not stand before the application's
            # provider. Replacing shuts down, and what a forked child has inherited is its parent's.
            self._domain = f"{self._options.domain}-provider-{os.getpid()}"
        self._client = _clients.setdefault((os.getpid(), self._domain), api.get_client(self._domain))
        for name in _EVENTS:
            self._handlers.append((event[name], self._handler(name)))
            self._client.add_handler(*self._handlers[-1])

    def _handler(self, name: str) -> Callable[[Any], None]:
        def hear(details: Any) -> None:
            """In one of the SDK's threads: note it and wake ours, nothing more."""
            self._events_come = True
            if name == "PROVIDER_STALE":
                self._stale_since = self._stale_since or time.monotonic()
            elif name != "PROVIDER_CONFIGURATION_CHANGED":
                self._stale_since = None
                self._error_told.clear()
            if name == "PROVIDER_ERROR":
                self._last_error = str(getattr(details, "message", None) or "")
                self._error_told.set()
            flags = _named_flags(details) if name == "PROVIDER_CONFIGURATION_CHANGED" else None
            if len(self._to_evaluate) >= _MOST_EVENTS:
                # The provider hangs, and goes on telling.
                self._to_evaluate.clear()
                flags = None
            self._to_evaluate.append(flags)
            self._wake.set()

        return hear

    def _install(self, provider: HostObject) -> None:
        """For our domain only: what the application has set stays as it is."""
        made = provider.take()
        self._others = frozenset(threading.enumerate())
        import_vendor("openfeature.api", REQUIREMENT).set_provider(made, self._domain)
        self._provider = made

    def _works_for_us(self, thread: threading.Thread) -> bool:
        """It runs the code of our provider, or of the SDK, and was begun while our provider was initialised."""
        if self._others is None or thread in self._others:
            return thread in self._providers_threads
        target = getattr(thread, "_target", None)
        module = str(getattr(target, "__module__", None) or type(thread).__module__)
        return module.partition(".")[0] in ("openfeature", type(self._provider).__module__.partition(".")[0])

    def _end_initialisation(self) -> None:
        begun = [each for each in threading.enumerate() if self._works_for_us(each)]
        self._providers_threads, self._others = frozenset(begun), None

    def _check_status(self) -> float | None:
        """Since when the provider's values are stale, if they are; raises `SourceUnavailable` if it has none."""
        provider = self._client.provider
        if type(provider).__name__ == NO_OP:
            raise NotReady("the application has set no OpenFeature provider")
        if is_inherited(provider):
            raise SourceUnavailable("the provider was set before this process was forked; set it anew in the child")
        name = str(provider.get_metadata().name)
        self._called = f"provider {name}"
        status = str(getattr(self._client.get_provider_status(), "name", ""))
        if status != "NOT_READY" and self._others is not None:
            self._end_initialisation()
        if status == "NOT_READY":
            raise NotReady(f"provider {name} is not ready")
        if status in ("ERROR", "FATAL"):
            # The SDK changes the status first, and says why in another thread.
            self._error_told.wait(_UNTIL_ERROR_IS_TOLD)
            raise SourceUnavailable(
                f"provider {name} is in state {status}: {self._last_error or 'it does not say why'}"
            )
        if status == "STALE":
            self._stale_since = self._stale_since or time.monotonic()
            return self._stale_since
        return None

    def _not_ready(self, reason: str) -> SourceUnavailable:
        is_beginning = time.monotonic() - self._opened_at < self._options.start_wait
        return NotReady(reason) if is_beginning else SourceUnavailable(reason)

    def _evaluate(self) -> Reading:
        before, self._evaluated = self._evaluated, None
        named = self._named()
        if before is None or named is None:
            reading = self._evaluate_each(_NOTHING, self._flags)
        else:
            reading = self._evaluate_each(before, {flag: kind for flag, kind in self._flags.items() if flag in named})
        failures = _failures(reading)
        if 0 < len(failures) < len(reading.reasons):
            # Some flags fail and others do not: that may be one of the flags, or an outage that has just begun.
            reading = self._evaluate_each(_NOTHING, self._flags)
            failures = _failures(reading)
        if failures and len(failures) == len(reading.reasons):
            raise SourceUnavailable(f"{self._called} answers {failures[0]}")
        if not failures:
            self._evaluated = reading
        return reading

    @property
    def _flags(self) -> Mapping[str, type]:
        return self._wanted or {}

    def _named(self) -> set[str] | None:
        """The flags to evaluate, if events alone lead here, and each names the flags it is about; None for all."""
        named: set[str] = set()
        is_called = bool(self._to_evaluate)
        while self._to_evaluate:
            flags = self._to_evaluate.popleft()
            is_called &= flags is not None
            named.update(flags or ())
        now = time.monotonic()
        if not is_called or now >= self._all_due_at:
            self._all_due_at = now + self._options.poll_interval
            return None
        return named

    def _evaluate_each(self, others: Reading, flags: Mapping[str, type]) -> Reading:
        """A reading with these flags evaluated, and the others as they are."""
        values, reasons, errors = dict(others.values), dict(others.reasons), dict(others.errors)
        for flag, kind in flags.items():
            values.pop(flag, None)
            errors.pop(flag, None)
            details, is_default = self._details(flag, kind)
            code = _code(details)
            if code in ("PROVIDER_NOT_READY", "PROVIDER_FATAL"):
                raise SourceUnavailable(f"the provider answers {code}: {details.error_message}")
            reasons[flag] = code or _reason(details) + (_FOLLOWS if is_default else "")
            if code and code != "FLAG_NOT_FOUND":
                errors[flag] = f"{code}: {details.error_message}"
            elif not code and not is_default:
                values[flag] = details.value
                if isinstance(details.value, bool) and kind in (int, float):
                    errors[flag] = "TYPE_MISMATCH: found a boolean, expected a number"
        return Reading(values, reasons, errors)

    def _details(self, flag: str, kind: type) -> tuple[Any, bool]:
        """The evaluation as the first type that fits, and whether the value is only the default that was passed."""
        mismatch = None
        for name in _KINDS[kind]:
            one, other = _ASKED_AS[name]
            evaluate = getattr(self._client, f"get_{name}_details")
            details = evaluate(flag, one, self._context)
            if _code(details) == "TYPE_MISMATCH":
                mismatch = mismatch or details
                continue
            is_default = not _code(details) and details.value == one
            return details, is_default and evaluate(flag, other, self._context).value == other
        return mismatch, False

    def _let_go(self) -> None:
        for event, handler in self._handlers:
            # The application may have cleared all handlers.
            with suppress(Exception):
                self._client.remove_handler(event, handler)
        # While the interpreter exits the SDK cannot start the thread that would shut the provider down.
        with suppress(Exception):
            if self._provider is not None and self._client.provider is self._provider:
                no_op = import_vendor("openfeature.provider.no_op_provider", REQUIREMENT).NoOpProvider
                import_vendor("openfeature.api", REQUIREMENT).set_provider(no_op(), self._domain)

    def _hear_out(self) -> None:
        """Until the provider's threads have ended, which the SDK does not wait for: they may have something to log."""
        until = time.monotonic() + _LAST_WORDS
        for thread in self._providers_threads:
            thread.join(max(0.0, until - time.monotonic()))


def _named_flags(details: Any) -> frozenset[str] | None:
    """The flags that a change is about, None if that may be any: what a provider tells may be anything."""
    named = getattr(details, "flags_changed", None)
    if not isinstance(named, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in named):
        return None
    return frozenset(named) or None


def _failures(reading: Reading) -> list[str]:
    """The provider's errors about flags that it cannot evaluate; one that asks a server has no other word for an
    outage."""
    return [error for flag, error in reading.errors.items() if reading.reasons[flag] == _GENERAL]


def _code(details: Any) -> str:
    return str(getattr(details.error_code, "name", details.error_code or ""))


def _reason(details: Any) -> str:
    reason = str(getattr(details.reason, "value", details.reason) or "no reason given")
    return f"{reason} (variant {details.variant})" if details.variant else reason


def _says_the_same(one: "Reading | SourceUnavailable", other: "Reading | SourceUnavailable") -> bool:
    return (
        isinstance(one, SourceUnavailable) and type(one) is type(other) and one.reason == getattr(other, "reason", None)
    )
