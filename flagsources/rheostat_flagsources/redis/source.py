"""The flags of a Redis server: read when it says that something has changed, and as often as is said."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from rheostat.plugins import (
    Duration,
    FilePath,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    ThreadedSource,
    Url,
    import_vendor,
)
from rheostat_flagsources.redis.backoff import Backoff
from rheostat_flagsources.redis.layout import Hash, Layout, Prefix
from rheostat_flagsources.redis.server import Server, address_of, login_of

_REQUIREMENT: Final = "rheostat[redis]"
_LEAST: Final = 0.01
_LEAST_DISTANCE: Final = 0.1
"""Seconds between two looks, however often the server says that something has changed."""
_SLOWEST_LOOK: Final = 8
"""Times `timeout`: both connections and what is exchanged over them, in bad times."""


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class RedisOptions:
    """The ``source`` section; ``config.example.yaml`` documents each key."""

    url: Url
    hash: str | None = None
    prefix: str | None = None
    streaming: bool = True
    channel: str | None = None
    username: str | None = None
    password: Secret | None = None
    poll_interval: Duration = Duration(10.0)
    timeout: Duration = Duration(2.0)
    ca_file: FilePath | None = None
    client_cert_file: FilePath | None = None
    client_key_file: FilePath | None = None

    def __post_init__(self) -> None:
        wrong = {}
        address = address_of(self.url)
        if address is None:
            wrong["url"] = (
                "an address like redis://localhost:6379/0, rediss://redis.example.com or unix:///run/redis.sock"
            )
        if (self.hash is None) == (self.prefix is None):
            wrong["hash"] = "either hash, whose fields are the flags, or prefix, with which their keys begin"
        elif self.hash == "":
            wrong["hash"] = "the key of a hash"
        if self.channel is not None and not (self.channel and self.streaming):
            wrong["channel"] = "the name of a channel, with streaming"
        wrong |= self._wrong_login()
        wrong |= {name: "10ms or more" for name in ("poll_interval", "timeout") if getattr(self, name) < _LEAST}
        for name in ("ca_file", "client_cert_file", "client_key_file"):
            if getattr(self, name) is not None and address is not None and not address.tls:
                wrong[name] = "a url that begins with rediss:// beside it"
        if self.client_key_file is not None and self.client_cert_file is None:
            wrong["client_key_file"] = "client_cert_file beside it"
        if wrong:
            raise InvalidOptions(wrong)

    def _wrong_login(self) -> dict[str, str]:
        username, password = login_of(self.url)
        wrong = {}
        if username is not None and self.username is not None:
            wrong["username"] = "none, as url has one"
        if password is not None and self.password is not None:
            wrong["password"] = "none, as url has one"
        return wrong

    def server(self) -> Server:
        """Where to connect, and who does."""
        address = address_of(self.url)
        # Checked above.
        assert address is not None
        username, password = login_of(self.url)
        return Server(
            address,
            username or self.username,
            password or self.password,
            self.timeout,
            self.ca_file or "",
            self.client_cert_file or "",
            self.client_key_file or "",
        )

    def layout(self) -> Layout:
        return Hash(self.hash) if self.hash is not None else Prefix(self.prefix or "")


class RedisSource(ThreadedSource):
    """Gives texts, as the server has nothing else."""

    Options: ClassVar[type] = RedisOptions

    def __init__(self, options: RedisOptions, identity: Identity) -> None:
        interval = min(_LEAST_DISTANCE, options.poll_interval)
        patience = options.poll_interval + _SLOWEST_LOOK * options.timeout
        super().__init__("redis", about=str(options.url), interval=interval, patience=patience)
        self._options = options
        self._call: Callable[[], None] = lambda: None
        self._has_begun = False
        self._wanted: frozenset[str] = frozenset()
        self._client: Any = None
        self._retries = Backoff(options.poll_interval)
        self._is_closed = threading.Event()
        self._in_use = threading.Lock()
        """Held by who works with the client's connections."""

    @property
    def poll_interval(self) -> float | None:
        return self._options.poll_interval

    def open(self, changed: Callable[[], None]) -> None:
        # Which flags are wanted says the first read: it begins.
        self._call = changed

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if not wanted.keys() <= self._wanted:
            self._wanted = self._wanted.union(wanted)
            if self._client is not None:
                self._client.look_now()
        if not (self._has_begun or self._is_closed.is_set()):
            self._has_begun = True
            super().open(self._call)
        reading = super().read(wanted)
        # What was not asked for is not undefined.
        if not wanted.keys() <= reading.reasons.keys():
            raise NotReady(f"{self._options.url}: no answer yet")
        return reading

    def ask(self) -> Reading:
        """The flags, once they may have changed, or it is time to see."""
        with self._in_use:
            try:
                self._client = self._client or self._made()
                if self._is_closed.is_set():
                    raise SourceUnavailable("the source is closed")
                reading: Reading = self._client.next_reading(lambda: self._wanted)
            # Also if it is none that is foreseen: it must not come again and again.
            except Exception as error:
                if self._client is not None:
                    self._client.close()
                reason = error.reason if isinstance(error, SourceUnavailable) else f"{type(error).__name__}: {error}"
                raise SourceUnavailable(reason, time.monotonic() + self._retries.next()) from None
            finally:
                if self._is_closed.is_set() and self._client is not None:
                    self._client.close()
        self._retries.reset()
        return reading

    def known_flags(self) -> Iterable[str]:
        """Asked for when somebody wants to know, as the server may have more of them than are of use."""
        return self._made().known_flags()  # type: ignore[no-any-return]  # its module is imported on first use

    def close(self) -> None:
        self._is_closed.set()
        if self._client is not None:
            self._client.shut()
        super().close()
        # Where the thread is at work it closes the connections, when it has been woken.
        if self._in_use.acquire(blocking=False):
            try:
                if self._client is not None:
                    self._client.close()
            finally:
                self._in_use.release()

    def _made(self) -> Any:
        client = import_vendor("rheostat_flagsources.redis.client", _REQUIREMENT)
        options = self._options
        channel = options.channel if options.streaming else None
        return client.Client(
            options.server(),
            options.layout(),
            poll_interval=options.poll_interval,
            streaming=options.streaming,
            channel=channel,
        )
