"""Sentry's continuous profiler, which samples this process and sends its chunks by the application's own client."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from rheostat.plugins import (
    Health,
    Identity,
    Parameter,
    PermanentError,
    TemporaryError,
    Value,
    green_threads,
    hold_off_forks,
)

_INSTALL: Final = "pip install 'rheostat[sentry]'"
_LOGGER: Final = "rheostat.sentry"
_THREAD: Final = "rheostat-sentry"
"""As ours a thread is no reason for a warning when the application forks, and is told from a session of its own."""

_CHUNK: Final = "profile_chunk"
"""Sentry's name for what it may want no more of."""

_IDLE: Final = 0.02
_OF_THREAD: Final = 0.003
"""Share of a core that a session takes, and each thread of it."""

_HARM: Final = {
    "gevent": (
        "each session of Sentry's profiler leaves a native thread, and its first chunk may bind the SDK's sender to "
        "one that ends: nothing of the application's would reach Sentry any more"
    ),
    "eventlet": "Sentry's profiler is a green thread too: it samples only itself, and its stop never returns",
}


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class SentryOptions:
    """The ``backend`` section: where profiles go, and as whose, is what the application tells ``sentry_sdk.init``."""


class _Session(NamedTuple):
    """One of the SDK's. Whoever starts another brings another thread."""

    client: Any
    profiler: Any
    thread: Any

    def runs(self) -> bool:
        scheduler = self.profiler._scheduler
        return _runs(scheduler) and scheduler.thread is self.thread


class SentryBackend:
    """One session of the SDK's profiler, which is global to the process. Never imports the SDK.

    Nothing that the SDK's own ``start_profiler`` passes over in silence is taken for a start.
    """

    Options: ClassVar[type] = SentryOptions
    without_effect: ClassVar[Mapping[str, str]] = {
        "sample_rate": "Sentry samples 101 times a second, whatever it is told",
        "mode": "Sentry samples every thread, whether it runs or waits",
    }
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        # In seconds. The SDK's own are 60, and encoding so much in one go holds the interpreter's lock for too long.
        "upload_interval": Parameter(int, 10, min=1, max=60),
    }

    def __init__(self, options: SentryOptions, identity: Identity) -> None:
        self._session: _Session | None = None
        self._is_limited = False

    @classmethod
    def estimate(cls, settings: Mapping[str, Value], threads: int) -> float:
        """Measured, with stacks thirty frames deep."""
        return _IDLE + _OF_THREAD * threads

    @classmethod
    def remarks(cls, settings: Mapping[str, Value]) -> Iterable[str]:
        few, many = (100 * cls.estimate(settings, threads) for threads in (5, 200))
        yield f"Idle threads cost as much as busy ones: with 5 about {few:.0f} % of a core, with 200 {many:.0f} %."

    def start(self, settings: Mapping[str, Value]) -> None:
        interval = settings.get("upload_interval", 10)
        if green_threads():
            raise PermanentError(f"under {green_threads()} {_HARM[green_threads()]}")
        client, profiler = _set_up()
        if _runs(profiler._scheduler):
            raise TemporaryError(
                "the application runs a session of Sentry's profiler itself, which is left alone; expected it to leave "
                "start_profiler() and stop_profiler() to Rheostat"
            )
        try:
            # A child that is forked in between would inherit the profiler's lock for ever.
            with hold_off_forks():
                profiler.start_profiler()
                scheduler = profiler._scheduler
                if not _runs(scheduler):
                    raise TemporaryError(
                        "Sentry's profiler has not started: there is no thread for it, or the application has just "
                        "called sentry_sdk.init again"
                    )
                scheduler.thread.name = _THREAD
            scheduler.buffer.buffer_size = interval
        except BaseException:
            profiler.stop_profiler()
            raise
        self._session, self._is_limited = _Session(client, profiler, scheduler.thread), False

    def stop(self) -> None:
        session = self._session
        # Its own exit handler, a new init or the application may have ended it.
        if session is not None and session.runs():
            # It waits for the thread, which hands over its last chunk.
            session.profiler.stop_profiler()
        self._session = None

    def probe(self) -> Health:
        """Whether the session's thread is alive, and its chunks have somewhere to go."""
        session = self._session
        if session is None:
            return Health("failed", "no session")
        if not session.runs():
            return Health(
                "failed", "its thread is gone: the application has called sentry_sdk.init again, or stop_profiler"
            )
        if _goes_nowhere(session.client):
            return Health("failed", "the application has closed its Sentry client: chunks go nowhere")
        self._tell_limit(_is_limited(session.client))
        return Health("healthy", "its thread samples" + (", and Sentry takes no chunks" if self._is_limited else ""))

    def _tell_limit(self, is_limited: bool) -> None:
        if is_limited is not self._is_limited:
            self._is_limited = is_limited
            if is_limited:
                _say(
                    "WARNING",
                    "Sentry takes no profiles for now, by its rate limit: is the quota used up? The session goes on, "
                    "and its chunks are dropped",
                )
            else:
                _say("INFO", "Sentry takes profiles again")


def _set_up() -> tuple[Any, Any]:
    """The application's client, and the SDK's module of a profiler that can be started.

    Raises `TemporaryError` while the application has not come to it, and `PermanentError` if it has come to another.
    """
    sdk = _imported("sentry_sdk")
    if sdk is None and importlib.util.find_spec("sentry_sdk") is None:
        raise PermanentError(f"the package 'sentry_sdk' is not installed: {_INSTALL}")
    client = getattr(sdk, "get_client", lambda: None)()
    if client is None or not client.is_active():
        raise TemporaryError("the application has not called sentry_sdk.init(...) yet")
    profiler = _imported("sentry_sdk.profiler.continuous_profiler")
    wrong = _what_is_wrong(client, profiler)
    if wrong:
        raise PermanentError(wrong)
    return client, profiler


def _imported(name: str) -> Any:
    """The module, if the application has imported it, and is not still doing so: it is never imported for it."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _what_is_wrong(client: Any, profiler: Any) -> str:
    """Why `start_profiler` would do nothing, or for nobody; empty if it would do."""
    options = client.options
    if _profiles_transactions(options):
        return (
            "the application's sentry_sdk.init has profiles_sample_rate or profiles_sampler, beside which there is no "
            "continuous profiler; expected profile_session_sample_rate=1.0 in their place"
        )
    if not hasattr(profiler, "start_profiler") or "profile_lifecycle" not in options:
        return f"this sentry-sdk has no continuous profiler that can be started and stopped: {_INSTALL}"
    scheduler = profiler._scheduler
    if getattr(scheduler, "mode", "") != "thread":
        return "the SDK has not set up its profiler; expected sentry_sdk.init without profiler_mode, or with 'thread'"
    if scheduler.options is not options:
        return (
            "Sentry's profiler belongs to another sentry_sdk.Client than that of sentry_sdk.init, whichever was made "
            "last; expected init to come last"
        )
    if options["profile_lifecycle"] != "manual":
        return (
            "the application's sentry_sdk.init has profile_lifecycle='trace', where transactions start and stop the "
            "profiler; expected 'manual'"
        )
    rate = options["profile_session_sample_rate"]
    if not rate:
        return "the application's sentry_sdk.init does not let it profile; expected profile_session_sample_rate=1.0"
    if not scheduler.sampled:
        return (
            f"with profile_session_sample_rate={rate} Sentry has drawn lots once for all, and not this process; "
            "expected 1.0: which processes profile is then for policy.rollout to say"
        )
    if _goes_nowhere(client):
        return "the application's Sentry client has no DSN, or is closed: chunks would go nowhere"
    return ""


def _profiles_transactions(options: Mapping[str, Any]) -> bool:
    rates = (options.get("profiles_sample_rate"), options.get("_experiments", {}).get("profiles_sample_rate"))
    return options.get("profiles_sampler") is not None or any(rates)


def _goes_nowhere(client: Any) -> bool:
    return client.transport is None and getattr(client, "spotlight", None) is None


def _is_limited(client: Any) -> bool:
    """The SDK drops chunks because Sentry has told it to. One of the application's own transports may not know."""
    check = getattr(client.transport, "_check_disabled", None)
    return check is not None and bool(check(_CHUNK))


def _runs(scheduler: Any) -> bool:
    """In this process: a forked child inherits all that its parent's believes of itself, but not its thread."""
    return bool(
        scheduler is not None
        and scheduler.running
        and scheduler.pid == os.getpid()
        and scheduler.thread is not None
        and scheduler.thread.is_alive()
    )


def _say(level: str, text: str) -> None:
    # Reading a configuration, which imports this module, needs no logging.
    import logging

    from rheostat.plugins import plugin_log

    plugin_log(_LOGGER, getattr(logging, level), "%s", text)
