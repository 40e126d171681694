"""The agent, with its pushes delivered by this very process: what `files` and `otlp` have in common."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from rheostat.plugins import (
    Health,
    Identity,
    InvalidOptions,
    Parameter,
    PermanentError,
    TemporaryError,
    Url,
    Value,
    hold_off_forks,
)
from rheostat_backends.pyroscope.backend import PyroscopeBackend, PyroscopeOptions

if TYPE_CHECKING:
    from rheostat.plugins import Loopback, Upload
    from rheostat_backends.pyroscope.push import PushedProfile

_OF_THE_AGENT: Final = ("tags", "report_thread_id", "report_thread_name", "sampler", "max_threads")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopbackOptions:
    """Of the agent's options those that are not about its server."""

    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    report_thread_id: bool = False
    report_thread_name: bool = False
    sampler: Literal["auto", "pyspy", "stack"] = "auto"
    max_threads: int = 25

    def __post_init__(self) -> None:
        wrong = self.wrong()
        if wrong:
            raise InvalidOptions(wrong)

    def wrong(self) -> dict[str, str]:
        """By field, what was expected of it."""
        try:
            self.of_the_agent("http://127.0.0.1")
        except InvalidOptions as error:
            return dict(error.expected)
        return {}

    def of_the_agent(self, address: str) -> PyroscopeOptions:
        return PyroscopeOptions(server_address=Url(address), **{name: getattr(self, name) for name in _OF_THE_AGENT})


class LoopbackBackend:
    """One session of the agent, and the port that takes what it pushes; a subclass delivers it."""

    cost_grows_with: ClassVar[str] = PyroscopeBackend.cost_grows_with
    parameters: ClassVar[Mapping[str, Parameter] | None] = PyroscopeBackend.parameters

    def __init__(self, options: LoopbackOptions, identity: Identity) -> None:
        self._loopback = options
        self._identity = identity
        self._agent: PyroscopeBackend | None = None
        self._sink: Loopback | None = None
        self._trouble: Exception | None = None

    @classmethod
    def estimate(cls, settings: Mapping[str, Value], threads: int) -> float:
        return PyroscopeBackend.estimate(settings, threads)

    @classmethod
    def remarks(cls, settings: Mapping[str, Value]) -> Iterable[str]:
        return PyroscopeBackend.remarks(settings)

    def prepare(self) -> None:
        """Whatever delivering needs. Raises BackendError; then there is no session."""

    def deliver(self, profiles: Iterable["PushedProfile"]) -> None:
        """The profiles of one push, in the port's thread; what it raises is `undelivered` until the next one is."""
        raise NotImplementedError

    def start(self, settings: Mapping[str, Value]) -> None:
        # Only who starts it pays for these.
        with hold_off_forks():
            from rheostat.plugins import Loopback
            from rheostat_backends.pyroscope.push import pushed_profiles
        _refuse_proxy()
        self.prepare()
        self._trouble = None

        def receive(push: "Upload") -> None:
            try:
                self.deliver(pushed_profiles(push.unpacked()))
            except Exception as error:
                self._trouble = error
                raise
            self._trouble = None

        sink = Loopback(receive, "rheostat-sink")
        try:
            address = sink.open()
        except (OSError, RuntimeError) as error:
            raise TemporaryError(f"there is no port on loopback, or no thread, to be had: {error}") from error
        try:
            agent = PyroscopeBackend(self._loopback.of_the_agent(address), self._identity)
            agent.start({**_defaults(self.parameters), **settings})
        except BaseException:
            sink.close()
            raise
        self._agent, self._sink = agent, sink

    def stop(self) -> None:
        if self._agent is not None:
            # It pushes its last window first.
            self._agent.stop()
            self._agent = None
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def probe(self) -> Health:
        """That of the agent's session, if there is somebody to take what it pushes."""
        if self._agent is None or self._sink is None:
            return Health("failed", "no session")
        if not self._sink.serves:
            return Health("failed", "the thread that takes what the agent pushes has ended")
        return self._agent.probe()

    def undelivered(self) -> Exception | None:
        """Why the last push of the session could not be delivered."""
        return self._trouble


def _defaults(parameters: Mapping[str, Parameter] | None) -> dict[str, Any]:
    return {name: each.default for name, each in (parameters or {}).items()}


def _refuse_proxy() -> None:
    """The agent would send a proxy what is for its own process, and has no option against it."""
    # Only who has a proxy pays for what knows the rules.
    if not any(name.lower() in ("http_proxy", "all_proxy") for name in os.environ):
        return
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    if any(proxies.get(each) for each in ("http", "all")) and not proxy_bypass_environment("127.0.0.1", proxies):
        raise PermanentError(
            "the environment has an HTTP proxy, to which the agent would send profiles that are for this process; "
            "add 127.0.0.1 to NO_PROXY"
        )
