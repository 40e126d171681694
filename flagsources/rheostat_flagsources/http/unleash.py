"""Unleash: its features asked for by ourselves, and evaluated by its own engine.

Not by UnleashClient, the SDK. With a server that is dead it is ready all the same, with no feature at all or with those
of a file that an earlier process has left, and only its log knows whether a fetch has failed; it begins three threads,
its start and its end wait for a server that hangs, and a second one of the same name is an error in the application's
log.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Thread
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from rheostat.plugins import (
    Duration,
    FilePath,
    HostObject,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    Url,
    VendorLog,
    hold_off_forks,
)
from rheostat_flagsources.http.asking import AskedOptions
from rheostat_flagsources.http.unleash_features import NAME, Features, document_of

LOGGERS: Final = ("yggdrasil_engine.engine", "urllib3.connection", "urllib3.connectionpool")

LOOK_FOR_CLIENT: Final = 1.0
"""Seconds between looks whether the application has made its client."""

# Of the specification that the oldest engine fulfils. A server that is told of none puts segments into each feature.
_OURS: Final = {"unleash-appname": "rheostat", "unleash-client-spec": "5.1.0"}
_FIELDS: Final = ("userId", "sessionId", "environment", "appName", "currentTime", "remoteAddress")


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class UnleashOptions:
    """The ``source`` section; ``config.example.yaml`` documents each key."""

    url: Url | None = None
    api_token: Secret | None = None
    client: HostObject | None = None
    project: str | None = None
    name_prefix: str | None = None
    environment: str = "default"
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    poll_interval: Duration = Duration(15.0)
    timeout: Duration = Duration(2.0)
    start_wait: Duration = Duration(5.0)
    ca_file: FilePath | None = None
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None

    def __post_init__(self) -> None:
        wrong = {}
        if (self.url is None) == (self.client is None):
            wrong["url"] = "either url, or client with the application's own client"
        elif self.url is not None and "?" in self.url.reveal():
            wrong["url"] = "an address like https://unleash.example.com/api"
        if self.api_token is not None and (self.client is not None or (self.url is not None and self.url.credentials)):
            wrong["api_token"] = "nothing beside client, or a user part in url"
        if self.start_wait < 0.1:
            wrong["start_wait"] = "at least 100ms"
        try:
            self.asked(_Access(self.url or Url("http://client"), self._headers()))
        except InvalidOptions as invalid:
            wrong = {**invalid.expected, **wrong}
        if wrong:
            raise InvalidOptions(wrong)

    def access(self) -> "_Access":
        """The features by `url`."""
        assert self.url is not None
        return _Access(self.url, self._headers(), self.project or "")

    def access_of(self, client: Any) -> "_Access":
        """The features that the application's client asks for; only its settings are read."""
        try:
            told = {"unleash-appname": client.unleash_app_name, "unleash-instanceid": client.unleash_instance_id}
            told = {**told, **(client.unleash_custom_headers or {})}
            headers = {name: Secret(str(value)) for name, value in told.items()}
            project = self.project or client.unleash_project_name or ""
            return _Access(Url(client.unleash_url), self._headers(headers), project)
        except AttributeError:
            found = type(client).__name__
            raise SourceUnavailable(
                f"{self.client}: found an object of type {found}, expected an UnleashClient"
            ) from None

    def asked(self, access: "_Access") -> AskedOptions:
        """Raises `InvalidOptions`."""
        return AskedOptions(
            url=access.url,
            headers=access.headers,
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            ca_file=self.ca_file,
            client_cert_file=self.client_cert_file,
            client_key_file=self.client_key_file,
        )

    def _headers(self, clients: Mapping[str, Secret] = MappingProxyType({})) -> Mapping[str, Secret]:
        """By names in lower case, so that each is sent once; the later ones win."""
        ours = {name: Secret(value) for name, value in _OURS.items()}
        token = {} if self.api_token is None else {"authorization": Secret(self.api_token.reveal().strip())}
        return {name.lower(): value for each in (ours, clients, self.headers, token) for name, value in each.items()}


class _Access(NamedTuple):
    """Where the features are, and what is to be sent for them."""

    url: Url
    headers: Mapping[str, Secret]
    project: str = ""


class _Prepared(NamedTuple):
    """An engine that knows one feature and those it depends on: what the engine does not take spoils no other."""

    document: str
    engine: Any
    trouble: str = ""
    unknown: str = ""
    """A feature that it depends on, and that the server has not sent."""


class UnleashSource:
    """Evaluates the features in this process, at each read: some depend on the time."""

    Options: ClassVar[type] = UnleashOptions

    def __init__(self, options: UnleashOptions, identity: Identity) -> None:
        self._options = options
        self._identity = identity
        self._context = self._context_with({})
        self._log = VendorLog(*LOGGERS, ours=_works_for_us)
        self._changed: Callable[[], None] = lambda: None
        self._opened_at = 0.0
        self._closed = False
        self._client: Any = None
        self._access: _Access | None = None
        self._features: Features | None = None
        self._defined: Reading | None = None
        self._prepared: dict[str, _Prepared] = {}
        self._reading = Reading({})

    @property
    def poll_interval(self) -> float | None:
        return LOOK_FOR_CLIENT if self._features is None else self._features.poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._opened_at = time.monotonic()
        self._log.attach()
        if self._options.client is None:
            self._follow(self._options.access())

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if self._options.client is not None and not self._closed:
            self._follow_client(self._options.client)
        if self._features is None:
            raise SourceUnavailable("the source is closed")
        defined = self._features.read(wanted)
        with self._log.speaking():
            if defined is not self._defined or not wanted.keys() <= self._prepared.keys():
                self._prepared = {flag: self._prepare(flag, defined.values) for flag in wanted}
                self._defined = defined
            reading = self._evaluate(wanted)
        if not reading.is_same_as(self._reading):
            self._reading = reading
        return self._reading

    def known_flags(self) -> Iterable[str]:
        return () if self._features is None else self._features.known_flags()

    def close(self) -> None:
        self._closed = True
        if self._features is not None:
            self._features.close()
        self._log.detach()

    def _follow(self, access: _Access) -> None:
        query = {"project": access.project, "namePrefix": self._options.name_prefix}
        features = Features(self._options.asked(access), {name: value for name, value in query.items() if value})
        if self._features is not None:
            self._features.close()
        features.open(self._changed)
        self._access, self._features = access, features

    def _follow_client(self, option: HostObject) -> None:
        """The application may have made another client, or have given its client another token."""
        try:
            client = option.take()
            access = self._options.access_of(client)
            if client is self._client and access == self._access:
                return
            self._follow(access)
        except SourceUnavailable as unavailable:
            is_beginning = time.monotonic() - self._opened_at < self._options.start_wait
            raise (NotReady if is_beginning else SourceUnavailable)(unavailable.reason) from None
        except InvalidOptions as invalid:
            raise SourceUnavailable(f"{option}: its settings cannot be used: {invalid}") from None
        self._client = client
        self._context = self._context_with(client.unleash_static_context)
        self._defined, self._prepared = None, {}

    def _context_with(self, clients: Mapping[str, object]) -> dict[str, Any]:
        """Of the instance, so that a gradual rollout takes a share of the instances and keeps it."""
        identity = self._identity
        own = {"userId": identity.instance, "sessionId": identity.instance, "appName": identity.application}
        given = {name: value for name, value in self._options.attributes.items() if value is not None}
        fields = {**own, "environment": self._options.environment, **clients, **given}
        properties = {name: _text(value) for name, value in identity.attributes(given).items() if name not in _FIELDS}
        return {**{name: _text(fields[name]) for name in _FIELDS if name in fields}, "properties": properties}

    def _prepare(self, flag: str, defined: Mapping[str, Any]) -> _Prepared:
        document, unknown = document_of(flag, defined)
        known = self._prepared.get(flag)
        if not document or (known is not None and known.document == document):
            return known if document and known is not None else _Prepared("", None)
        assert self._features is not None
        assert self._features.make_engine is not None
        try:
            # The first one loads a library, whose lock a forked child would find taken.
            with hold_off_forks():
                engine = self._features.make_engine()
            engine.register_custom_strategies(getattr(self._client, "strategy_mapping", None) or {})
            engine.take_state(document)
        except Exception as error:
            return _Prepared(document, None, f"{type(error).__name__}: {error}")
        return _Prepared(document, engine, unknown=unknown)

    def _evaluate(self, wanted: Mapping[str, type]) -> Reading:
        values: dict[str, object] = {}
        reasons: dict[str, str] = {}
        errors: dict[str, str] = {}
        for flag, kind in wanted.items():
            prepared = self._prepared[flag]
            if not prepared.document:
                continue
            variant = None if prepared.trouble else _variant(prepared.engine, flag, self._context)
            if variant is None:
                errors[flag] = f"malformed toggle: {prepared.trouble or 'the engine does not take it'}"
                continue
            reasons[flag] = _reason(variant, prepared.unknown)
            if kind is bool or (kind is object and not variant.enabled):
                values[flag] = bool(variant.feature_enabled)
            elif variant.enabled:
                values[flag] = _payload(variant)
            elif variant.feature_enabled:
                errors[flag] = "the toggle is enabled, but has no variant; expected one whose payload is the value"
        return Reading(values, reasons, errors)


def _works_for_us(thread: Thread) -> bool:
    return thread.name == f"rheostat-{NAME}"


def _variant(engine: Any, flag: str, context: dict[str, Any]) -> Any:
    """None if the engine does not know the feature, which is so after it was given something malformed."""
    # Since version 2 get_variant counts for metrics.
    if hasattr(engine, "check_variant"):
        found = engine.check_variant(flag, context)
        return found.variant if found.is_found else None
    try:
        return engine.get_variant(flag, context)
    except Exception:
        return None


def _payload(variant: Any) -> object:
    payload = variant.payload or {}
    return payload.get("value", variant.name)


def _reason(variant: Any, unknown: str) -> str:
    if variant.enabled:
        return f"enabled, variant {variant.name}"
    if variant.feature_enabled:
        return "enabled"
    return f"disabled: it depends on {unknown}, which the server has not sent" if unknown else "disabled"


def _text(value: object) -> str:
    """As people write it in a constraint; what is no Unicode the engine would not take."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.encode(errors="replace").decode()
