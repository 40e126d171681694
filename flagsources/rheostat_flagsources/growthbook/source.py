"""The flag source that evaluates GrowthBook's features in this process."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from rheostat.plugins import (
    Duration,
    HostObject,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    Url,
    VendorLog,
    import_vendor,
)

from .feed import REQUIREMENT, Feed, Server
from .payload import Payload, is_same

CLOUD: Final = "https://cdn.growthbook.io"

LOGGERS: Final = ("growthbook", "growthbook.core", "urllib3.connection", "urllib3.connectionpool")

_NOTHING: Final = Reading({})

_CLIENT_INTERVAL: Final = 1.0
"""Seconds between looks at the application's own client, which tells nobody of changes."""


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class GrowthBookOptions:
    """The ``source`` section; ``config.example.yaml`` documents each key."""

    client_key: Secret | None = None
    api_host: Url = field(default_factory=lambda: Url(CLOUD))
    decryption_key: Secret | None = None
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    streaming: bool = True
    poll_interval: Duration = Duration(60.0)
    timeout: Duration = Duration(5.0)
    client: HostObject | None = None

    def __post_init__(self) -> None:
        wrong = {}
        if (self.client_key is None) == (self.client is None):
            wrong["client_key"] = "either client_key, or client with the application's own client"
        elif self.client_key is not None and not self.client_key.reveal().strip():
            wrong["client_key"] = "the client key of an SDK connection"
        host = self.api_host.reveal()
        if not host.startswith(("http://", "https://")) or not host.partition("://")[2].strip("/"):
            wrong["api_host"] = f"a URL like {CLOUD}"
        elif self.api_host.credentials:
            wrong["api_host"] = f"a URL like {CLOUD}, without a user part, which would not be sent"
        if self.poll_interval < 1.0:
            wrong["poll_interval"] = "at least 1s"
        if self.timeout < 0.1:
            wrong["timeout"] = "at least 100ms"
        if wrong:
            raise InvalidOptions(wrong)

    def server(self) -> Server:
        return Server(
            api_host=self.api_host.reveal().rstrip("/"),
            client_key="" if self.client_key is None else self.client_key.reveal().strip(),
            decryption_key="" if self.decryption_key is None else self.decryption_key.reveal().strip(),
            streaming=self.streaming,
            poll_interval=self.poll_interval,
            timeout=self.timeout,
        )


class _Prepared(NamedTuple):
    """A payload with the features that each wanted flag needs, and an evaluator for those of the flags to evaluate.

    That is None if one of the features spoils it: then each flag has to be evaluated by itself. `unchanged` is the part
    of the last reading that holds for this payload too, `trouble` the stream's.
    """

    payload: Payload
    needed: Mapping[str, Mapping[str, Any]]
    trouble: str
    unchanged: Reading
    to_evaluate: tuple[str, ...]
    evaluator: Any


class _Evaluated(NamedTuple):
    """A reading, and all that it follows from besides our attributes, which never change."""

    reading: Reading
    prepared: _Prepared


class GrowthBookSource:
    """Evaluates with an evaluator of its own.

    ``GrowthBook(client_key=...)`` would join the module-wide repository of the SDK, whose features, stream and exit
    are the application's.
    """

    Options: ClassVar[type] = GrowthBookOptions

    def __init__(self, options: GrowthBookOptions, identity: Identity) -> None:
        self._options = options
        self._attributes = {"id": identity.instance, **identity.attributes(options.attributes)}
        self._log = VendorLog(*LOGGERS, ours=self._works_for_us)
        self._make: Any = None
        self._feed: Feed | None = None
        self._opened_at = 0.0
        self._wanted: Mapping[str, type] | None = None
        self._changed: Callable[[], None] = lambda: None
        self._evaluated: _Evaluated | None = None
        self._payload: Payload | None = None
        self._seen = (0, 0)

    @property
    def poll_interval(self) -> float | None:
        if self._options.client is not None:
            return _CLIENT_INTERVAL
        # It calls once it knows; if it never does, that has to be noticed.
        return self._options.timeout if self._payload is None else None

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._opened_at = time.monotonic()
        self._log.attach()
        if self._options.client is None:
            self._feed = Feed(self._options.server(), self._hear)
            self._feed.open()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        self._wanted = wanted
        payload = self._payload = self._current()
        evaluated = self._evaluated
        if evaluated is None or evaluated.prepared.payload is not payload:
            with self._log.speaking():
                evaluated = self._evaluated = self._evaluate(self._prepare(payload, wanted))
        return evaluated.reading

    def known_flags(self) -> Iterable[str]:
        return () if self._payload is None else self._payload.features

    def _works_for_us(self, thread: threading.Thread) -> bool:
        return self._feed is not None and self._feed.owns(thread)

    def _hear(self) -> None:
        """In one of the feed's threads, which has the time to evaluate for the control thread."""
        payload = self._feed.newest if self._feed is not None else None
        evaluated = self._evaluated
        if (
            payload is not None
            and self._wanted is not None
            and (evaluated is None or evaluated.prepared.payload is not payload)
        ):
            self._evaluated = self._evaluate(self._prepare(payload, self._wanted))
        self._changed()

    def close(self) -> None:
        self._log.detach()
        if self._feed is not None:
            self._feed.close()

    def _current(self) -> Payload:
        if self._feed is None:
            return self._clients()
        if self._feed.trouble:
            raise SourceUnavailable(self._feed.trouble, self._feed.retry_at)
        if self._feed.newest is None and self._feed.asked_at is None:
            raise self._nothing_yet("growthbook is still being imported", self._opened_at)
        if self._feed.newest is None:
            raise self._nothing_yet(f"no answer from {self._options.api_host} yet", self._feed.asked_at)
        return self._feed.newest

    def _nothing_yet(self, reason: str, since: float | None) -> SourceUnavailable:
        is_beginning = since is not None and time.monotonic() - since < self._options.timeout
        return NotReady(reason) if is_beginning else SourceUnavailable(reason)

    def _clients(self) -> Payload:
        """The features of the application's client. Only they are asked for: evaluating fires its callbacks."""
        assert self._options.client is not None
        try:
            client = self._options.client.take()
        except SourceUnavailable as unavailable:
            raise self._nothing_yet(unavailable.reason, self._opened_at) from None
        features = client.get_features()
        if not features:
            raise self._nothing_yet(f"{self._options.client}: the client has no features", self._opened_at)
        # The client fills its mapping after it has put it in place.
        seen = (id(features), len(features))
        if self._payload is None or seen != self._seen:
            self._seen = seen
            return Payload(features, getattr(client, "_saved_groups", None) or {})
        return self._payload

    def _evaluate(self, prepared: _Prepared) -> _Evaluated:
        unchanged = prepared.unchanged
        values, reasons, errors = dict(unchanged.values), dict(unchanged.reasons), dict(unchanged.errors)
        for flag in prepared.to_evaluate:
            features = prepared.needed[flag]
            try:
                result = (prepared.evaluator or self._evaluator(prepared.payload, features)).eval_feature(flag)
            # A malformed feature raises whatever it leads to.
            except Exception as error:
                errors[flag] = f"malformed feature: {_in_words(features[flag], error)}"
                continue
            reasons[flag] = _reason(result, prepared.trouble)
            if result.source == "cyclicPrerequisite":
                errors[flag] = "cyclic prerequisites"
            elif result.source == "prerequisite" and result.value is None:
                # To the SDK that is a feature without a value: applications get their own default.
                continue
            else:
                values[flag] = result.value
        return _Evaluated(Reading(values, reasons, errors), prepared)

    def _prepare(self, payload: Payload, wanted: Mapping[str, type]) -> _Prepared:
        if self._make is None:
            self._make = import_vendor("growthbook", REQUIREMENT).GrowthBook
        needed = {flag: features for flag in wanted if (features := payload.needed_for(flag))}
        trouble = self._feed.stream_trouble if self._feed is not None else ""
        unchanged = self._unchanged(payload, needed, trouble)
        to_evaluate = tuple(flag for flag in needed if flag not in unchanged.reasons)
        together = {name: feature for flag in to_evaluate for name, feature in needed[flag].items()}
        try:
            evaluator = self._evaluator(payload, together)
        except Exception:
            evaluator = None
        return _Prepared(payload, needed, trouble, unchanged, to_evaluate, evaluator)

    def _unchanged(self, payload: Payload, needed: Mapping[str, Mapping[str, Any]], trouble: str) -> Reading:
        """The part of the last reading that is of flags for which the payload says the same as then."""
        # The application's client may change its features in place.
        if self._feed is None or self._evaluated is None:
            return _NOTHING
        reading, last = self._evaluated
        if last.trouble != trouble or payload.saved_groups != last.payload.saved_groups:
            return _NOTHING
        same = {
            flag
            for flag, features in needed.items()
            if flag in reading.reasons and is_same(features, last.needed[flag])
        }
        return reading.only(same)

    def _evaluator(self, payload: Payload, features: Mapping[str, Any]) -> Any:
        return self._make(attributes=self._attributes, features=features, savedGroups=payload.saved_groups)


def _reason(result: Any, trouble: str) -> str:
    rule = getattr(result, "ruleId", None)
    reason = f"{result.source} (rule {rule})" if rule else str(result.source)
    return f"{reason}; polled, the stream fails: {trouble}" if trouble else reason


def _in_words(feature: Any, error: Exception) -> str:
    if not isinstance(feature, Mapping) and not hasattr(feature, "rules"):
        return f"found {type(feature).__name__}, expected a mapping"
    return f"{type(error).__name__}: {error}"
