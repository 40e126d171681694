"""LaunchDarkly: an SDK client of Rheostat's own, or the application's."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

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

REQUIREMENT: Final = "rheostat[launchdarkly]"
LOGGERS: Final = ("ldclient.util", "ldclient.flag", "urllib3.connection", "urllib3.connectionpool")

EVALUATE_AGAIN: Final = 10.0
"""Seconds after which flags are evaluated again though no change was heard of: some data sources tell of none."""

LOOK_FOR_CLIENT: Final = 1.0
"""Seconds between looks whether the application has made its client."""

_LAST_WORDS: Final = 0.3
"""The most seconds that the SDK's threads are waited for at the end."""
_Any = TypeVar("_Any")

_ABSENT: Final = object()
_HINTS: Final = {401: "is sdk_key right?", 403: "is sdk_key right?", 404: "is the relay's address right?"}
_RETRY: Final = re.compile(r"will retry in ([0-9.]+)s")
_ADDRESS: Final = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>:? ?")
_KIND: Final = re.compile(r"[A-Za-z0-9._-]+")


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class LaunchDarklyOptions:
    """The ``source`` section; ``config.example.yaml`` documents each key."""

    sdk_key: Secret | None = None
    context_kind: str = "service"
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    relay: Url | None = None
    base_uri: Url | None = None
    stream_uri: Url | None = None
    start_wait: Duration = Duration(5.0)
    client: HostObject | None = None

    def __post_init__(self) -> None:
        wrong = {}
        if (self.sdk_key is None) == (self.client is None):
            wrong["sdk_key"] = "either sdk_key, or client with the application's own client"
        elif self.sdk_key is not None and not self.sdk_key.reveal().strip():
            wrong["sdk_key"] = "the SDK key of an environment"
        if not _KIND.fullmatch(self.context_kind) or self.context_kind in ("kind", "multi"):
            wrong["context_kind"] = "a context kind of letters, digits, dots and dashes, other than kind and multi"
        if self.start_wait < 0.1:
            wrong["start_wait"] = "at least 100ms"
        for name in ("relay", "base_uri", "stream_uri"):
            url: Url | None = getattr(self, name)
            if url is not None and not url.reveal().startswith(("http://", "https://")):
                wrong[name] = "a URL like https://relay.example.com:8030"
            elif url is not None and url.credentials:
                wrong[name] = "a URL like https://relay.example.com:8030, without a user part, which would not be sent"
        if wrong:
            raise InvalidOptions(wrong)

    def addresses(self) -> dict[str, str]:
        """Where to connect, by the SDK's names; nothing stands for LaunchDarkly's own servers."""
        chosen = {"base_uri": self.base_uri or self.relay, "stream_uri": self.stream_uri or self.relay}
        return {name: url.reveal() for name, url in chosen.items() if url is not None}


class LaunchDarklySource:
    """Evaluates in this process; the SDK's listeners only say that something has changed."""

    Options: ClassVar[type] = LaunchDarklyOptions

    def __init__(self, options: LaunchDarklyOptions, identity: Identity) -> None:
        self._options = options
        self._identity = identity
        self._config: Any = None
        # The SDK's thread keeps the configuration that it was made with; where it does not, its lines are not kept out.
        self._log = VendorLog(*LOGGERS, ours=self._works_for_us)
        self._client: Any = None
        self._context: Any = None
        self._changed: Callable[[], None] = lambda: None
        self._connecting_since: float | None = None
        self._is_dirty = True
        self._changes: deque[str] = deque()
        """The flags that may have another value since they were evaluated; all may, where it is dirty."""
        self._evaluated_at = 0.0
        self._reading = Reading({})
        self._closed = False

    @property
    def poll_interval(self) -> float | None:
        if self._client is None:
            return None if self._options.client is None else LOOK_FOR_CLIENT
        # Should it never connect, that has to be noticed.
        return None if self._client.is_initialized() else self._options.start_wait

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._log.attach()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self._closed:
            raise SourceUnavailable("the source is closed")
        with self._log.speaking():
            if self._client is None:
                self._connect()
            self._check()
            try:
                self._follow(wanted)
            except BaseException:
                # What was not evaluated is the next time.
                self._is_dirty = True
                raise
        return self._reading

    def _follow(self, wanted: Mapping[str, type]) -> None:
        """Evaluate what may have changed; before anything else it is forgotten: what changes meanwhile is another."""
        if self._is_dirty or time.monotonic() - self._evaluated_at >= EVALUATE_AGAIN:
            self._is_dirty = False
            self._changes.clear()
            self._evaluated_at = time.monotonic()
            self._learn(self._evaluate(wanted))
        elif changed := self._changed_flags().intersection(wanted):
            self._learn(_merged(self._reading, self._evaluate(changed), changed))

    def _changed_flags(self) -> set[str]:
        changed = set()
        # Another thread may be adding to them.
        with suppress(IndexError):
            while True:
                changed.add(self._changes.popleft())
        return changed

    def _learn(self, reading: Reading) -> None:
        self._reading = self._reading if reading.is_same_as(self._reading) else reading

    def known_flags(self) -> Iterable[str]:
        with self._log.speaking():
            return list(self._client.all_flags_state(self._context).to_values_map())

    def close(self) -> None:
        self._closed = True
        try:
            if self._client is not None:
                with self._log.speaking():
                    self._stop_hearing()
                    if self._options.client is None:
                        self._client.close()
                        self._hear_out()
        finally:
            self._log.detach()

    def _connect(self) -> None:
        ldclient = import_vendor("ldclient", REQUIREMENT)
        if self._connecting_since is None:
            # Importing takes seconds in a busy process, which are not LaunchDarkly's.
            self._connecting_since = time.monotonic()
        builder = ldclient.Context.builder(self._identity.instance).kind(self._options.context_kind)
        for name, value in self._attributes().items():
            builder.set(name, value)
        self._context = builder.build()
        self._client = self._make(ldclient) if self._options.client is None else self._take(self._options.client)
        self._is_dirty = True
        self._client.flag_tracker.add_listener(self._hear_change)
        self._client.data_source_status_provider.add_listener(self._hear)

    def _stop_hearing(self) -> None:
        self._client.flag_tracker.remove_listener(self._hear_change)
        self._client.data_source_status_provider.remove_listener(self._hear)

    def _hear_out(self) -> None:
        """Until the SDK's threads have ended, which it does not wait for: they may have something to log."""
        until = time.monotonic() + _LAST_WORDS
        for thread in filter(self._works_for_us, threading.enumerate()):
            thread.join(max(0.0, until - time.monotonic()))

    def _make(self, ldclient: Any) -> Any:
        """A client of our own: never through ``ldclient.set_config()``, which would close the application's."""
        assert self._options.sdk_key is not None
        self._config = ldclient.Config(
            self._options.sdk_key.reveal().strip(),
            send_events=False,
            diagnostic_opt_out=True,
            **self._options.addresses(),
        )
        # Nothing is waited for here: the listeners tell when it has connected.
        return ldclient.LDClient(self._config, start_wait=0)

    def _take(self, client: HostObject) -> Any:
        try:
            return client.take(lambda found: getattr(found, "_owner_pid", None))
        except SourceUnavailable as unavailable:
            raise self._not_connected(unavailable.reason) from None

    def _attributes(self) -> dict[str, Any]:
        given = self._identity.attributes(self._options.attributes)
        # They would make another context of it.
        return {name: value for name, value in given.items() if name not in ("key", "kind")}

    def _hear_change(self, change: Any) -> None:
        """In the SDK's thread: note which flag it is; the SDK also names those that have it as a prerequisite."""
        self._changes.append(change.key)
        self._changed()

    def _hear(self, _: object) -> None:
        """In the SDK's thread: say that something has changed, nothing more."""
        self._is_dirty = True
        self._changed()

    def _works_for_us(self, thread: object) -> bool:
        return self._config is not None and getattr(thread, "_config", None) is self._config

    def _check(self) -> None:
        """Raise `SourceUnavailable` unless the SDK's data is there, and current as far as it knows."""
        status = self._client.data_source_status_provider.status
        state = status.state.name
        if self._client.is_initialized() and state in ("VALID", "INITIALIZING"):
            return
        if state == "OFF" and self._options.client is not None:
            # The application may have put another in its place: that is taken at the next look.
            self._stop_hearing()
            self._client = None
        if status.error is None and state == "OFF":
            raise SourceUnavailable(f"{self._where}: the client was shut down")
        if status.error is None:
            raise self._not_connected(f"{self._where}: no answer yet")
        if state == "OFF":
            # Older versions of the SDK never try again after a 401, for one.
            raise SourceUnavailable(f"{self._where}: {_in_words(status.error)}; the client has given up")
        raise SourceUnavailable(f"{self._where}: {_in_words(status.error)}", self._retry_at(status.error))

    def _not_connected(self, reason: str) -> SourceUnavailable:
        since = self._connecting_since
        is_beginning = since is not None and time.monotonic() - since < self._options.start_wait
        return NotReady(reason) if is_beginning else SourceUnavailable(reason)

    @property
    def _where(self) -> str:
        return str(self._options.client or self._options.stream_uri or self._options.relay or "LaunchDarkly")

    def _retry_at(self, error: Any) -> float | None:
        """When it will try again, which the SDK only tells its log."""
        found = _RETRY.search(self._log.last_warning)
        return None if found is None else time.monotonic() + error.time + float(found[1]) - time.time()

    def _evaluate(self, wanted: Iterable[str]) -> Reading:
        values: dict[str, object] = {}
        reasons: dict[str, str] = {}
        errors: dict[str, str] = {}
        for flag in wanted:
            detail = self._client.variation_detail(flag, self._context, _ABSENT)
            error = detail.reason.get("errorKind")
            if error == "CLIENT_NOT_READY":
                raise SourceUnavailable(f"{self._where}: the client has no data")
            reasons[flag] = _reason(detail.reason)
            if error is not None and error != "FLAG_NOT_FOUND":
                errors[flag] = error
            elif detail.value is not _ABSENT:
                values[flag] = detail.value
        return Reading(values, reasons, errors)


def _merged(before: Reading, after: Reading, changed: Collection[str]) -> Reading:
    """What was known, and of the flags that have changed what is known now."""

    def merged(old: Mapping[str, _Any], new: Mapping[str, _Any]) -> Mapping[str, _Any]:
        return {**{flag: each for flag, each in old.items() if flag not in changed}, **new}

    return Reading(
        merged(before.values, after.values), merged(before.reasons, after.reasons), merged(before.errors, after.errors)
    )


def _reason(reason: Mapping[str, Any]) -> str:
    kind = str(reason.get("errorKind") or reason.get("kind"))
    if "prerequisiteKey" in reason:
        return f"{kind} ({reason['prerequisiteKey']})"
    return f"{kind} (rule {reason['ruleIndex'] + 1})" if "ruleIndex" in reason else kind


def _in_words(error: Any) -> str:
    """Without what differs from one try to the next, such as the addresses of objects."""
    if error.status_code:
        hint = _HINTS.get(error.status_code, "")
        return f"HTTP {error.status_code}" + (f": {hint}" if hint else "")
    text = _ADDRESS.sub("", str(error.message or ""))
    return text or str(error.kind.name).lower().replace("_", " ")
