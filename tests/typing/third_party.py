"""Only type-checked: ordinary classes that simply have the methods are flag sources, backends and observers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import rheostat
from rheostat import Health, Observer, Transition, Value
from rheostat.plugins import (
    Backend,
    Duration,
    FilePath,
    FlagSource,
    Identity,
    KnowsFlags,
    Parameter,
    Probing,
    Reading,
    Secret,
    SourceUnavailable,
    TemporaryError,
    Url,
)


@dataclass(frozen=True, kw_only=True)
class RedisOptions:
    url: Url
    password: Secret | None = None
    certificate: FilePath | None = None
    timeout: Duration = Duration(1.0)


class RedisSource:
    Options: ClassVar[type] = RedisOptions

    def __init__(self, options: RedisOptions, identity: Identity) -> None:
        self.options = options
        self.flags: dict[str, object] = {"instance": identity.instance}

    @property
    def poll_interval(self) -> float | None:
        return 5.0

    def open(self, changed: Callable[[], None]) -> None:
        changed()

    def read(self, wanted: Mapping[str, type]) -> Reading:
        if not self.flags:
            raise SourceUnavailable("not connected yet")
        return Reading(self.flags, reasons={"profiling_enabled": "a rule"})

    def known_flags(self) -> Iterable[str]:
        return self.flags

    def close(self) -> None:
        self.flags.clear()


class PushedSource(RedisSource):
    """A class attribute will do where nothing is polled."""

    poll_interval = None


class Sampler:
    Options: ClassVar[type] = RedisOptions
    parameters: ClassVar[Mapping[str, Parameter] | None] = {"rate": Parameter(int, 10, min=1, max=100)}

    def __init__(self, options: RedisOptions, identity: Identity) -> None:
        self.labels = {"application": identity.application, **identity.tags}

    def start(self, settings: Mapping[str, Value]) -> None:
        if not settings:
            raise TemporaryError("nothing to do")

    def stop(self) -> None:
        self.labels.clear()

    def probe(self) -> Health:
        return Health("healthy", "5 threads")


def count(transition: Transition) -> None:
    print(transition.seq, transition.from_state, transition.to_state, transition.cause.kind)


options = RedisOptions(url=Url("redis://localhost"))
identity = Identity(application="shop", instance="a", tags={}, pid=1)
source: FlagSource = RedisSource(options, identity)
knowing: KnowsFlags = RedisSource(options, identity)
pushed: FlagSource = PushedSource(options, identity)
backend: Backend = Sampler(options, identity)
probing: Probing = Sampler(options, identity)
observer: Observer = count
source_class: type[FlagSource] = RedisSource
backend_class: type[Backend] = Sampler

with rheostat.start("config.yaml", tags={"version": "1"}, observers=[count]) as reconciler:
    reconciler.nudge()
    print(reconciler.status().state is rheostat.State.RUNNING)
    stopped: bool = reconciler.stop(timeout=1.0)
