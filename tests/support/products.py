"""Flag products as their flag sources meet them: each says flags, breaks in its own ways, and is mended."""

import json
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Final, Self, cast

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from . import remote_provider
from .vendors.faults import Fault
from .vendors.growthbook import DECRYPTION_KEY, GrowthBookServer, StreamEvent
from .vendors.launchdarkly import LaunchDarklyServer

PATIENCE: Final = 10.0
HOST: Final = "the_hosts_flags"
"""The name of the module that stands for the application's."""

Flags = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The source cannot know the flags, and says why; after the lease these settings are left, or it is off."""

    reason: str
    left: Flags | None = None


@dataclass(frozen=True, slots=True)
class Unnoticed:
    """Nothing is wrong as far as anybody can know; flips still arrive, unless they do not."""

    flips: bool = True


@dataclass(frozen=True, slots=True)
class Flapping:
    """It fails and answers, over and over."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The source answers, but its flags cannot be used."""

    errors: str


Effect = Unavailable | Unnoticed | Flapping | Malformed

_STREAM_FAULTS: Final = (Fault.STREAM_ENDS_AT_ONCE, Fault.STREAM_ENDS_EVERY_SECOND, Fault.STREAM_SILENT)


class Product(ABC):
    """Owns what the flags come from, from the entry to the exit of a `with` block."""

    faults: Mapping[str, Effect]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    @abstractmethod
    def where(self) -> str:
        """A text that the reason for being unavailable has to name."""

    @abstractmethod
    def section(self) -> dict[str, object]:
        """The `source:` section of a configuration."""

    @abstractmethod
    def say(self, flags: Flags) -> None:
        """Make these all the flags there are."""

    @abstractmethod
    def break_(self, fault: str) -> None: ...

    @abstractmethod
    def mend(self) -> None: ...

    def attempts(self) -> int:
        """How often it was asked up to now, where that can be known."""
        return 0


class _FlagsFile(Product):
    """Flags in a file."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name
        self._flags: Flags = {}
        self._written = 0

    @abstractmethod
    def text(self, flags: Flags) -> str: ...

    @abstractmethod
    def broken(self, fault: str) -> bytes: ...

    @property
    def where(self) -> str:
        return str(self.path)

    def say(self, flags: Flags) -> None:
        self._flags = flags
        self.write(self.text(flags).encode())

    def write(self, content: bytes) -> None:
        """Put a new file in place."""
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        self._date(new)
        new.replace(self.path)

    def _date(self, path: Path) -> None:
        """Some readers only look at what is newer, by seconds, than what they know."""
        self._written += 1
        moment = os.stat(path).st_mtime_ns + self._written * 10**9
        os.utime(path, ns=(moment, moment))

    def break_(self, fault: str) -> None:
        if fault == "missing":
            self.path.unlink()
        elif fault == "directory":
            self.path.unlink()
            self.path.mkdir()
            self._date(self.path)
        else:
            self.write(self.broken(fault))

    def mend(self) -> None:
        if self.path.is_dir():
            self.path.rmdir()
        self.say(self._flags)


class YamlFile(_FlagsFile):
    """A YAML file of flags, looked at by Rheostat."""

    name = "flags.yaml"
    faults: ClassVar[Mapping[str, Effect]] = {
        "missing": Unavailable("No such file or directory"),
        "directory": Unavailable("not a regular file"),
        "garbage": Unavailable("expected"),
        "html": Unavailable("expected a mapping"),
        "empty": Unavailable("expected a mapping"),
        "too large": Unavailable("more than 64 KiB"),
        "malformed": Malformed("found a list"),
    }

    def section(self) -> dict[str, object]:
        return {"kind": "yaml", "path": str(self.path), "poll_interval": "50ms"}

    def text(self, flags: Flags) -> str:
        return json.dumps(flags)

    def broken(self, fault: str) -> bytes:
        return {
            "garbage": b'{"flags": \xff\xfe\x00\x80 }}]',
            "html": b"<!doctype html><html><body>Sign in</body></html>",
            "empty": b"",
            "too large": b"# " + b"x" * 65536,
            "malformed": b"{on: [], rate: [], mode: []}",
        }[fault]


class _Served(Product):
    """Flags from a server on loopback."""

    server: GrowthBookServer | LaunchDarklyServer

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    @property
    def where(self) -> str:
        return self.server.url

    def say(self, flags: Flags) -> None:
        self.server.set_flags(flags)

    def break_(self, fault: str) -> None:
        self.server.fault = Fault(fault)

    def mend(self) -> None:
        self.server.mend()

    def attempts(self) -> int:
        return len(self.server.requests)


def _statuses(hints: Mapping[Fault, str]) -> dict[Fault, Effect]:
    return {each: Unavailable(f"HTTP {each}{hints.get(each, '')}") for each in Fault if each.status}


_GROWTHBOOK: Final[Mapping[Fault, Effect]] = {
    **_statuses(
        {
            Fault.STATUS_400: ": is client_key right?",
            Fault.STATUS_401: ": is client_key right?",
            Fault.STATUS_403: ": is client_key right?",
            Fault.STATUS_404: ": are api_host and client_key right?",
        }
    ),
    Fault.HANG: Unavailable("no answer within"),
    Fault.CUT: Unavailable("the connection broke"),
    Fault.RESET: Unavailable("Connection reset by peer"),
    Fault.REFUSED: Unavailable("Connection refused"),
    Fault.GARBAGE: Unavailable("found something else, expected JSON"),
    Fault.HTML: Unavailable("found HTML, expected JSON"),
    Fault.EMPTY: Unavailable("found nothing, expected JSON"),
    Fault.ENCRYPTED_WRONG: Unavailable("set decryption_key"),
    Fault.MALFORMED: Malformed("malformed feature"),
    Fault.BAD_HEADERS: Unnoticed(),
    Fault.TRICKLE: Unavailable("the answer was not complete"),
}


@dataclass
class GrowthBook(_Served):
    """GrowthBook's API, with one of its ways to tell of changes."""

    stream_event: StreamEvent = "features"
    encrypted: bool = False
    streaming: bool = True
    poll_interval: str = "1s"
    timeout: str = "1s"
    server: GrowthBookServer = field(default_factory=GrowthBookServer)

    def __post_init__(self) -> None:
        self.server.stream_event = self.stream_event
        self.server.decryption_key = DECRYPTION_KEY if self.encrypted else None
        faults = dict(_GROWTHBOOK)
        if self.encrypted:
            faults[Fault.ENCRYPTED_WRONG] = Unavailable("cannot be decrypted")
        if self.streaming:
            faults |= dict.fromkeys(_STREAM_FAULTS, Unnoticed())
        self.faults = cast("Mapping[str, Effect]", faults)

    def section(self) -> dict[str, object]:
        return {
            "kind": "growthbook",
            "api_host": self.server.url,
            "client_key": self.server.client_key,
            "streaming": self.streaming,
            "poll_interval": self.poll_interval,
            "timeout": self.timeout,
            **({"decryption_key": DECRYPTION_KEY} if self.encrypted else {}),
        }


_LAUNCHDARKLY: Final[Mapping[Fault, Effect]] = {
    **_statuses(
        {
            Fault.STATUS_401: ": is sdk_key right?",
            Fault.STATUS_403: ": is sdk_key right?",
            Fault.STATUS_404: ": is the relay's address right?",
        }
    ),
    # A stream that has fallen silent is taken for a quiet one for five minutes.
    Fault.HANG: Unnoticed(flips=False),
    Fault.STREAM_SILENT: Unnoticed(flips=False),
    Fault.CUT: Unavailable("Response ended prematurely"),
    Fault.RESET: Unavailable("Connection reset by peer"),
    Fault.REFUSED: Unavailable("Connection refused"),
    Fault.GARBAGE: Unavailable("can't decode"),
    Fault.HTML: Unavailable("invalid content type"),
    Fault.EMPTY: Unavailable("closed the stream"),
    Fault.STREAM_ENDS_AT_ONCE: Flapping(),
    Fault.STREAM_ENDS_EVERY_SECOND: Flapping(),
    # The SDK takes all flags of a message or none.
    Fault.MALFORMED: Unavailable("error in flag/segment data"),
    Fault.BAD_HEADERS: Unnoticed(),
}


class LaunchDarkly(_Served):
    """LaunchDarkly's streaming service."""

    faults = cast("Mapping[str, Effect]", _LAUNCHDARKLY)

    def __init__(self) -> None:
        self.server = LaunchDarklyServer()

    def section(self) -> dict[str, object]:
        return {"kind": "launchdarkly", "relay": self.server.url, "sdk_key": self.server.sdk_key}


class Flagd(_FlagsFile):
    """OpenFeature over flagd's provider, which reads a file; made by the application, for Rheostat alone."""

    name = "flags.flagd.json"
    faults: ClassVar[Mapping[str, Effect]] = {
        "missing": Unavailable("Provided file path not valid"),
        "directory": Unavailable("Could not read flags from file"),
        "garbage": Unavailable("Could not"),
        "html": Unavailable("Could not parse JSON"),
        "empty": Unavailable("Could not parse JSON"),
        "malformed": Malformed("TYPE_MISMATCH"),
    }

    @property
    def where(self) -> str:
        return "provider FlagdProvider"

    def __enter__(self) -> Self:
        self._begun = threading.Event()
        self._begun.set()
        install(provider=self._make)
        return self

    def __exit__(self, *_: object) -> None:
        uninstall()
        api.clear_providers()

    def write(self, content: bytes) -> None:
        self._let_it_begin()
        super().write(content)

    def break_(self, fault: str) -> None:
        self._let_it_begin()
        super().break_(fault)

    def _let_it_begin(self) -> None:
        """The provider tells of its first flags before it notes how old their file is: what is written in between
        would never be read."""
        assert self._begun.wait(PATIENCE)

    def _make(self) -> object:
        # It needs a newer protobuf than the oldest that Rheostat works with.
        from openfeature.contrib.provider import flagd
        from openfeature.contrib.provider.flagd.config import ResolverType

        begun = self._begun
        begun.clear()

        class FlagdProvider(flagd.FlagdProvider):
            def initialize(self, evaluation_context: EvaluationContext) -> None:
                try:
                    super().initialize(evaluation_context)
                finally:
                    begun.set()

        return FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(self.path), deadline_ms=50)

    def section(self) -> dict[str, object]:
        return {"kind": "openfeature", "provider": f"{HOST}:provider"}

    def text(self, flags: Flags) -> str:
        return json.dumps({"flags": {name: flagd_flag(value) for name, value in flags.items()}})

    def broken(self, fault: str) -> bytes:
        return {
            "garbage": b'{"flags": \xff\xfe\x00\x80 }}]',
            "html": b"<!doctype html><html><body>Sign in</body></html>",
            "empty": b"",
            "malformed": self.text({"on": "x", "rate": "97", "mode": 5}).encode(),
        }[fault]


def flagd_flag(value: object, **changes: object) -> dict[str, object]:
    """A flag in flagd's words that has this value for everyone, and whatever is to differ from that."""
    return {"state": "ENABLED", "variants": {"only": value}, "defaultVariant": "only", **changes}


class Provider(InMemoryProvider):
    """The SDK's in-memory provider, with flags that can be changed, and with ways to break."""

    def __init__(self, flags: Flags = MappingProxyType({})) -> None:
        super().__init__(storage(flags))
        self.failure: BaseException | None = None
        self.working = threading.Event()
        self.working.set()

    def put(self, flags: Mapping[str, InMemoryFlag[Any]]) -> None:
        self._flags = dict(flags)
        self.emit_provider_configuration_changed(ProviderEventDetails())

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        self._answer()

    def _resolve(self, flag_key: str, *rest: Any) -> FlagResolutionDetails[Any]:
        self._answer()
        return super()._resolve(flag_key, *rest)

    def _answer(self) -> None:
        self.working.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure


def storage(flags: Flags) -> dict[str, InMemoryFlag[Any]]:
    return {name: InMemoryFlag("only", {"only": value}) for name, value in flags.items()}


class HostsProvider(Product):
    """OpenFeature over a provider that the application has set for itself."""

    faults: ClassVar[Mapping[str, Effect]] = {
        "error": Unavailable("in state ERROR: the link is down"),
        "fatal": Unavailable("in state FATAL: the key is wrong"),
        "stale": Unavailable("stale"),
        "hangs": Unavailable("does not answer"),
        "raises": Unavailable("answers GENERAL: the evaluation failed"),
        "starts anew": Unavailable("answers PROVIDER_NOT_READY: the link is not up yet"),
        "malformed": Malformed("TYPE_MISMATCH"),
    }

    def __init__(self) -> None:
        self.provider = Provider()
        self._flags: Flags = {}

    @property
    def where(self) -> str:
        return ""

    def __enter__(self) -> Self:
        api.set_provider(self.provider)
        return self

    def __exit__(self, *_: object) -> None:
        self.provider.working.set()
        api.clear_providers()

    def section(self) -> dict[str, object]:
        return {"kind": "openfeature", "start_wait": "1s"}

    def say(self, flags: Flags) -> None:
        self._flags = flags
        self.provider.put(storage(flags))

    def break_(self, fault: str) -> None:
        provider = self.provider
        if fault == "error":
            provider.emit_provider_error(ProviderEventDetails(message="the link is down"))
        elif fault == "fatal":
            fatal = ErrorCode.PROVIDER_FATAL
            provider.emit_provider_error(ProviderEventDetails(message="the key is wrong", error_code=fatal))
        elif fault == "stale":
            provider.emit_provider_stale(ProviderEventDetails())
        elif fault == "malformed":
            provider.put(storage({"on": 1, "rate": "97", "mode": True}))
        else:
            if fault == "hangs":
                provider.working.clear()
            elif fault == "starts anew":
                provider.failure = ProviderNotReadyError("the link is not up yet")
            else:
                provider.failure = RuntimeError("the evaluation failed")
            provider.emit_provider_configuration_changed(ProviderEventDetails())

    def mend(self) -> None:
        self.provider.failure = None
        self.provider.working.set()
        self.provider.emit_provider_ready(ProviderEventDetails())
        self.say(self._flags)


_REMOTE: Final[Mapping[Fault, Effect]] = {
    **{fault: Unavailable("GENERAL: HTTP Error") for fault in Fault if fault.status},
    Fault.HANG: Unavailable("does not answer"),
    Fault.CUT: Unavailable("GENERAL"),
    Fault.RESET: Unavailable("GENERAL"),
    Fault.REFUSED: Unavailable("Connection refused"),
    Fault.GARBAGE: Unavailable("GENERAL"),
    Fault.HTML: Unavailable("GENERAL"),
    Fault.EMPTY: Unavailable("GENERAL"),
    Fault.BAD_HEADERS: Unnoticed(),
}


class RemoteProduct(_Served):
    """OpenFeature over a provider that asks a server for each evaluation."""

    faults = cast("Mapping[str, Effect]", _REMOTE)

    def __init__(self) -> None:
        self.server = GrowthBookServer()

    def __enter__(self) -> Self:
        super().__enter__()
        remote_provider.url = f"{self.server.url}{self.server.features_path}"
        install(provider=remote_provider.make)
        return self

    def __exit__(self, *_: object) -> None:
        uninstall()
        api.clear_providers()
        super().__exit__()

    @property
    def where(self) -> str:
        return "provider remote"

    def section(self) -> dict[str, object]:
        return {"kind": "openfeature", "provider": f"{HOST}:provider", "start_wait": "1s", "poll_interval": "100ms"}


class Layers(Product):
    """Two products, one above the other. The one that `breaks` also says the flags, unless a fault names the other."""

    def __init__(self, upper: Product, lower: Product, faults: Mapping[str, Effect], breaks: Product) -> None:
        self.upper, self.lower = upper, lower
        self.faults = faults
        self._breaks = breaks
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self.upper)
        self._open.enter_context(self.lower)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def where(self) -> str:
        return "layer "

    def section(self) -> dict[str, object]:
        return {"kind": "layers", "layers": [self.upper.section(), self.lower.section()]}

    def say(self, flags: Flags) -> None:
        self._breaks.say(flags)

    def break_(self, fault: str) -> None:
        which, separator, name = fault.partition(": ")
        if not separator:
            self._breaks.break_(fault)
        else:
            getattr(self, which).break_(name)

    def mend(self) -> None:
        self.upper.mend()
        self.lower.mend()

    def attempts(self) -> int:
        return self.upper.attempts() + self.lower.attempts()


class Override(YamlFile):
    """An optional file, which is not there as long as all is well."""

    name = "override.yaml"

    def section(self) -> dict[str, object]:
        return {**super().section(), "optional": True}

    def mend(self) -> None:
        self.path.unlink(missing_ok=True)


class Fallback(YamlFile):
    """A file with flags of its own, for when nothing else is known."""

    name = "fallback.yaml"
    FLAGS: ClassVar[Flags] = {"on": True, "rate": 5, "mode": "cpu"}

    def __enter__(self) -> Self:
        self.say(self.FLAGS)
        return self


def override_above_growthbook(folder: Path) -> Layers:
    """An operator's file wins over GrowthBook."""
    lower = GrowthBook()
    faults = {fault: _in_layer("layer 2 (growthbook)", effect) for fault, effect in lower.faults.items()}
    faults["upper: garbage"] = Unavailable("layer 1 (yaml)", left={"rate": 97, "mode": "wall"})
    return Layers(Override(folder), lower, faults, breaks=lower)


def launchdarkly_above_fallback(folder: Path) -> Layers:
    """A file says what holds while LaunchDarkly does not answer."""
    upper = LaunchDarkly()
    left = {"rate": 5, "mode": "cpu"}
    faults = {fault: _in_layer("layer 1 (launchdarkly)", effect, left) for fault, effect in upper.faults.items()}
    faults["lower: garbage"] = Unavailable("layer 2 (yaml)", left={"rate": 97, "mode": "wall"})
    return Layers(upper, Fallback(folder), faults, breaks=upper)


def _in_layer(name: str, effect: Effect, left: Flags | None = None) -> Effect:
    match effect:
        case Unavailable():
            return Unavailable(effect.reason, left)
        case Malformed():
            return Malformed(f"{name}: {effect.errors}")
        case _:
            return effect


PRODUCTS: Final[Mapping[str, Callable[[Path], Product]]] = {
    "yaml": YamlFile,
    "growthbook": lambda _: GrowthBook(),
    "growthbook-features-updated": lambda _: GrowthBook(stream_event="features-updated"),
    "growthbook-encrypted": lambda _: GrowthBook(encrypted=True),
    "growthbook-polling": lambda _: GrowthBook(streaming=False),
    "launchdarkly": lambda _: LaunchDarkly(),
    "openfeature-flagd": Flagd,
    "openfeature-host": lambda _: HostsProvider(),
    "openfeature-remote": lambda _: RemoteProduct(),
    "layers-override": override_above_growthbook,
    "layers-fallback": launchdarkly_above_fallback,
}
"""Every product, and how it is made in a folder."""


def install(**names: object) -> None:
    """Let the application have a module with these."""
    module = ModuleType(HOST)
    module.__dict__.update(names)
    sys.modules[HOST] = module


def uninstall() -> None:
    sys.modules.pop(HOST, None)


class Unbuildable:
    """A flag source that cannot be made."""

    Options: ClassVar[type] = dict
    poll_interval = None

    def __init__(self, options: object, identity: object) -> None:
        raise RuntimeError("out of order")

    def open(self, changed: Callable[[], None]) -> None: ...

    def read(self, wanted: Mapping[str, type]) -> None: ...

    def close(self) -> None: ...
