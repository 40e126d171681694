"""Datadog's continuous profiler (``ddtrace``), which samples this process for a Datadog agent, or for files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rheostat.plugins import (
    BackendError,
    Bytes,
    Duration,
    FilePath,
    Health,
    Identity,
    InvalidOptions,
    Parameter,
    PermanentError,
    TemporaryError,
    Url,
    Value,
    call_within,
    green_threads,
    hold_off_forks,
)

if TYPE_CHECKING:
    from rheostat.plugins import Loopback, ProfileFolder, Upload
    from rheostat_backends.datadog.session import Session

_ADDRESS = re.compile(
    r"http://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?|unix:///[!-~]+", re.ASCII
)
_LEAST_TOTAL_SIZE: Final = 2**20
_LEAST_AGE: Final = 60.0
_PATIENCE: Final = 5.0
"""Seconds that the agent may take for one upload."""
_MORE: Final = 0.5
"""Seconds that the end waits beyond that."""
_UNIFIED: Final = ("env", "service", "version")
"""What Datadog knows a service by; an option, or else a tag of the application's."""
_RESERVED_TAGS: Final = frozenset(
    {"language", "process_id", "profiler_config", "profiler_version", "runtime", "runtime-id", "runtime_version"}
)
_ENDINGS: Final = {b"\x28\xb5\x2f\xfd": ".pprof.zst", b"\x04\x22\x4d\x18": ".pprof.lz4"}
"""By how a file begins: ddtrace compresses by itself, and earlier versions differently."""
_ENDING: Final = ".pprof.zst"

_BASE: Final = 0.0015
_SAMPLED_THREAD: Final = 0.00033
_OTHER_THREAD: Final = 0.00003
"""Shares of a core, measured at the least rate, with stacks ten frames deep."""


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class DatadogOptions:
    """The ``backend`` section; ``config.example.yaml`` documents each key.

    With `output` profiles are files in that folder, and no agent is asked for anything.
    """

    url: Url = field(default_factory=lambda: Url("http://localhost:8126"))
    service: str = ""
    env: str = ""
    version: str = ""
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    code_provenance: bool = False
    output: FilePath | None = None
    max_total_size: Bytes = Bytes(256 * 2**20)
    max_age: Duration = Duration(7 * 24 * 3600.0)

    def __post_init__(self) -> None:
        wrong = {
            "url": _wrong_address(self.url.reveal()),
            **{name: _wrong_text(getattr(self, name)) for name in _UNIFIED},
            "tags": _wrong_tags(self.tags, reserved=_RESERVED_TAGS | set(_UNIFIED)),
            "max_total_size": "1MiB or more" if self.max_total_size < _LEAST_TOTAL_SIZE else "",
            "max_age": "1m or more" if self.max_age < _LEAST_AGE else "",
        }
        wrong = {name: expected for name, expected in wrong.items() if expected}
        if wrong:
            raise InvalidOptions(wrong)


def _wrong_address(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 2**16):
        return "a URL like http://localhost:8126 or unix:///var/run/datadog/apm.socket"
    return ""


def _wrong_text(text: str) -> str:
    # All tags are one line for the agent, with a comma between any two of them.
    return "" if text.isprintable() and "," not in text else "printable text without a comma"


def _wrong_tags(tags: Mapping[str, str], reserved: Iterable[str]) -> str:
    for name, value in tags.items():
        if name in reserved:
            return f"other tags than {name}, which has an option of its own or is ddtrace's"
        if not re.fullmatch(r"[A-Za-z][\w./-]*", name, re.ASCII):
            return f"tag names of letters, digits, dots, dashes, slashes and underscores, unlike {name!r}"
        if not value or _wrong_text(value):
            return f"printable text without a comma as the value of {name}"
    return ""


class DatadogBackend:
    """One session of ddtrace's profiler, whose native half is global to the process. Imports it at the first start."""

    Options: ClassVar[type] = DatadogOptions
    cost_grows_with: ClassVar[str] = "overhead"
    without_effect: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "sample_rate": "ddtrace chooses the rate by itself, between 10 a second and what overhead has room for",
            "mode": "ddtrace samples the time on the wall clock and on the processor, both at once",
        }
    )
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        # Percent of the processor time that the process itself uses; at 100 the sampler takes a core for itself.
        "overhead": Parameter(float, 1.0, min=0.1, max=20.0),
        "stack": Parameter(bool, True),
        "memory": Parameter(bool, False),
        # Locks that are made meanwhile stay wrapped, and slow, for as long as they live.
        "lock": Parameter(bool, False),
        "exception": Parameter(bool, False),
        # Takes sys.monitoring's place for profilers, of which the application's cProfile wants one, too.
        "native_frames": Parameter(bool, False),
        # Looked at in each sample, of more a random part; 0: all.
        "max_threads": Parameter(int, 25, min=0, max=1000),
        # In seconds.
        "upload_interval": Parameter(int, 60, min=1, max=3600),
    }

    def __init__(self, options: DatadogOptions, identity: Identity) -> None:
        self._options = options
        self._identity = identity
        self._session: Session | None = None
        self._loopback: Loopback | None = None
        self._agent: Any = None
        self._trouble: Exception | None = None
        wrong = _wrong_tags(identity.tags, _RESERVED_TAGS) or _wrong_text(identity.application)
        if wrong:
            raise PermanentError(f"application and tags: expected {wrong}")

    @classmethod
    def estimate(cls, settings: Mapping[str, Value], threads: int) -> float:
        """Measured: what the least rate takes, or the part of a busy core that ddtrace keeps to."""
        most, asked = (_number(settings, name) for name in ("max_threads", "overhead"))
        sampled = min(threads, most) if most else threads
        return max(_BASE + _SAMPLED_THREAD * sampled + _OTHER_THREAD * (threads - sampled), asked / 100)

    @classmethod
    def remarks(cls, settings: Mapping[str, Value]) -> Iterable[str]:
        yield (
            "The rate cannot be set: ddtrace takes 10 samples a second, and more while they cost less than "
            f"{_number(settings, 'overhead'):g} % of the process's own processor time."
        )
        if settings.get("lock"):
            yield "With lock each use of a lock that is made meanwhile takes about 1 µs more, after the session too."
        if settings.get("exception") or settings.get("native_frames"):
            yield "exception and native_frames need Python 3.12 or later, and its sys.monitoring to themselves."

    def start(self, settings: Mapping[str, Value]) -> None:
        tuned = {name: settings.get(name, each.default) for name, each in (self.parameters or {}).items()}
        if not any(tuned[name] for name in ("stack", "memory", "lock", "exception")):
            raise PermanentError("nothing is to be collected; expected one of stack, memory, lock and exception")
        if tuned["stack"] and green_threads():
            raise PermanentError(
                f"under {green_threads()} ddtrace takes Rheostat's thread for the main one, and charges it with the "
                "work of others; expected a process with native threads, stack: false, or kind: pyroscope"
            )
        # Only who starts it pays for these.
        with hold_off_forks():
            from rheostat.plugins import Loopback
            from rheostat_backends.datadog.library import import_library
            from rheostat_backends.datadog.session import begin
        if self._options.output is not None:
            self._check_folder()
        try:
            library = import_library()
        except ImportError as error:
            raise PermanentError(str(error)) from error
        library.refuse_another()
        # ddtrace writes to stderr when an upload fails, and a hung agent holds up its stop and the exit by ten seconds.
        loopback = Loopback(self._deliver, "rheostat-datadog", answers_first=True)
        try:
            self._session = begin(library, self._names(), tuned, loopback.open(), self._options.code_provenance)
        except BaseException as error:
            loopback.close()
            if isinstance(error, OSError | RuntimeError):
                raise TemporaryError(f"there is no port on loopback, or no thread, to be had: {error}") from error
            raise
        self._loopback, self._trouble = loopback, None

    def _names(self) -> dict[str, Any]:
        identity, options = self._identity, self._options
        own = {name: getattr(options, name) or identity.tags.get(name, "") for name in _UNIFIED}
        own["service"] = own["service"] or identity.application
        others = {name: value for name, value in identity.tags.items() if name not in _UNIFIED}
        return {**own, "tags": {"instance": identity.instance, **others, **options.tags}}

    def stop(self) -> None:
        loopback = self._loopback
        if self._session is None or loopback is None:
            return
        before = loopback.taken
        # It uploads its last window first.
        self._session.end()
        self._session = self._loopback = None
        loopback.close(_PATIENCE + _MORE)
        if loopback.taken == before:
            raise TemporaryError("ddtrace did not upload the last window of the session: that is lost")

    def probe(self) -> Health:
        """Whether the threads of the session exist, and one that takes what it uploads."""
        if self._session is None or self._loopback is None:
            return Health("failed", "no session")
        if not self._loopback.serves:
            return Health("failed", "the thread that takes what ddtrace uploads has ended")
        return self._session.health()

    def reach(self, timeout: float) -> None:
        """Raises BackendError if the last profile was not taken, or the next would not be."""
        if self._trouble is not None:
            raise _again(self._trouble)
        if self._options.output is not None:
            self._check_folder()
            return
        agent = self._open_agent()
        try:
            # A name is resolved for as long as that takes.
            call_within(lambda: agent.ask(timeout), timeout, "rheostat-reach")
        except BackendError:
            raise
        except TimeoutError as late:
            raise TemporaryError(f"{self._options.url}: {late}") from None
        # Whatever answers there may speak anything.
        except Exception as error:
            raise TemporaryError(f"{self._options.url}: {type(error).__name__}") from None

    def _deliver(self, upload: "Upload") -> None:
        """In the thread of the port."""
        try:
            if self._options.output is None:
                self._open_agent().take(upload, _PATIENCE)
            else:
                self._add_file(upload)
        except Exception as error:
            self._trouble = error
        else:
            self._trouble = None

    def _open_agent(self) -> Any:
        if self._agent is None:
            # Only who uploads pays for it.
            with hold_off_forks():
                from rheostat_backends.datadog.agent import Agent
            self._agent = Agent(self._options.url)
        return self._agent

    def _folder(self, ending: str = _ENDING) -> "ProfileFolder":
        # Only who wants files pays for it.
        with hold_off_forks():
            from rheostat.plugins import ProfileFolder
        return ProfileFolder(
            self._options.output or "",
            self._identity.application,
            ending,
            max_total_size=self._options.max_total_size,
            max_age=self._options.max_age,
        )

    def _check_folder(self) -> None:
        try:
            self._folder().check()
        except OSError as error:
            raise self._useless(error) from error

    def _add_file(self, upload: "Upload") -> None:
        # Only who wants files pays for it.
        with hold_off_forks():
            from rheostat_backends.datadog.multipart import profile_of
        profile = profile_of(upload)
        try:
            self._folder(_ENDINGS.get(profile[:4], ".pprof")).add(profile)
        except OSError as error:
            raise self._useless(error) from error

    def _useless(self, error: OSError) -> TemporaryError:
        why = error.strerror or type(error).__name__
        return TemporaryError(f"{self._options.output}: {why}; expected a folder to write profiles to")


def _number(settings: Mapping[str, Value], name: str) -> float:
    value = settings.get(name)
    return value if isinstance(value, int | float) else float((DatadogBackend.parameters or {})[name].default)


def _again(error: Exception) -> BackendError:
    """The same exception raised again and again would make its traceback grow."""
    kind = type(error) if isinstance(error, BackendError) else TemporaryError
    return kind(str(error) or f"the last profile was lost ({type(error).__name__})")
