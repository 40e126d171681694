"""The Pyroscope agent (``pyroscope-io``), which samples this process and pushes to a Pyroscope server."""

import re
import sys
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
    Secret,
    TemporaryError,
    Url,
    Value,
    call_within,
    green_threads,
    hold_off_forks,
    silence_on_fork,
)

if TYPE_CHECKING:
    from rheostat_backends.pyroscope.stack_sampler import StackSampler

MODE_TAG: Final = "profiling_mode"
"""The tag that carries the mode: the server cannot tell cpu from wall profiles by anything else."""

_MOST_THREADS: Final = 10_000
# The agent takes the first as another name of the application, and makes the others itself.
_RESERVED_TAGS: Final = frozenset({"service_name", "__name__", MODE_TAG})
_ONE_CREDENTIAL: Final = "only one of auth_token, basic_auth_username, an Authorization header and the URL's user part"
_IN_HEADER_NAME: Final = "!#$%&'*+.^_`|~-"
"""Besides letters and digits."""
_ADDRESS = re.compile(
    r"https?://(?:[!-.0-?A-~]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?", re.ASCII
)

_SETTLING: Final = 0.05
"""Seconds after a start in which a child that is forked may hang in its own stop: measured up to 20 ms."""

_WALL: Final = "mode wall sees no green thread but the one that runs: those that wait are on no thread's stack"
_SAMPLE: Final = 0.0003
_SAMPLE_OF_THREAD: Final = 0.0002
"""Seconds of processor time that a sample takes, and each thread of it in mode wall."""
_MAIMED: Final = 2
"""Threads that are left of a session that cannot sample; a sound one has four."""
_ABOUT_FORKS: Final = r"This process \(pid=\d+\) is running Pyroscope"

_MODES: Final = {
    "gil": {"oncpu": True, "gil_only": True},
    "cpu": {"oncpu": True, "gil_only": False},
    "wall": {"oncpu": False, "gil_only": False},
}


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class PyroscopeOptions:
    """The ``backend`` section; ``config.example.yaml`` documents each key.

    Checks all that the agent does not: it would start, and silently deliver nothing.
    """

    server_address: Url = field(default_factory=lambda: Url("http://localhost:4040"))
    auth_token: Secret | None = None
    basic_auth_username: str = ""
    basic_auth_password: Secret | None = None
    tenant_id: str = ""
    http_headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    report_pid: bool = False
    report_thread_id: bool = False
    report_thread_name: bool = False
    sampler: Literal["auto", "pyspy", "stack"] = "auto"
    max_threads: int = 25

    def __post_init__(self) -> None:
        wrong = {
            "server_address": _wrong_address(self.server_address.reveal()) or self._wrong_user_part(),
            "auth_token": self._wrong_token(),
            "basic_auth_password": self._wrong_basic(),
            "tenant_id": "" if _fits_header(self.tenant_id) else "printable ASCII on one line",
            "http_headers": _wrong_headers(self.http_headers),
            "tags": _wrong_tags(self.tags),
            "max_threads": "" if 0 <= self.max_threads <= _MOST_THREADS else f"0 (all) to {_MOST_THREADS}",
        }
        wrong = {name: expected for name, expected in wrong.items() if expected}
        if wrong:
            raise InvalidOptions(wrong)

    def _wrong_user_part(self) -> str:
        others = self.auth_token is not None or self.basic_auth_username or self._has_authorization()
        return _ONE_CREDENTIAL if self.server_address.credentials and others else ""

    def _wrong_token(self) -> str:
        if self.auth_token is None:
            return ""
        if self.basic_auth_username or self._has_authorization():
            return _ONE_CREDENTIAL
        token = self.auth_token.reveal()
        return "" if token and _fits_header(token) else "printable ASCII on one line"

    def _wrong_basic(self) -> str:
        has_password = self.basic_auth_password is not None and bool(self.basic_auth_password.reveal())
        if bool(self.basic_auth_username) != has_password:
            return "both basic_auth_username and basic_auth_password, or neither"
        return _ONE_CREDENTIAL if self.basic_auth_username and self._has_authorization() else ""

    def _has_authorization(self) -> bool:
        return any(name.lower() == "authorization" for name in self.http_headers)

    def headers(self) -> dict[str, str]:
        headers = {name: value.reveal() for name, value in self.http_headers.items()}
        if self.auth_token is not None:
            headers["Authorization"] = f"Bearer {self.auth_token.reveal()}"
        return headers


def _wrong_address(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 2**16):
        return "a URL like http://localhost:4040, with http or https and a host"
    return ""


def _fits_header(value: str) -> bool:
    """Printable ASCII on one line: nothing that could end the header or begin another."""
    return value.isascii() and value.isprintable()


def _wrong_headers(headers: Mapping[str, Secret]) -> str:
    for name, value in headers.items():
        if not all(each.isascii() and (each.isalnum() or each in _IN_HEADER_NAME) for each in name or " "):
            return "header names of letters, digits and dashes"
        if not _fits_header(value.reveal()):
            return f"printable ASCII on one line as the value of {name}"
    return ""


def _wrong_tags(tags: Mapping[str, str]) -> str:
    for name, value in tags.items():
        if name in _RESERVED_TAGS:
            return f"other tags than {name}, which Rheostat or the agent sets itself"
        if name.startswith(".") or not (name.isascii() and name.replace(".", "_").isidentifier()):
            return f"tag names of letters, digits, dots and underscores, unlike {name!r}"
        if not value or not value.isprintable():
            return f"a printable text as the value of {name}"
    return ""


def _say(level: str, text: str) -> None:
    # Reading a configuration, which imports this module, needs no logging.
    import logging

    from rheostat.plugins import plugin_log

    plugin_log("rheostat.pyroscope", getattr(logging, level), "%s", text)


class PyroscopeBackend:
    """One session of the agent, which is global to the process. Imports the agent at the first start."""

    Options: ClassVar[type] = PyroscopeOptions
    cost_grows_with: ClassVar[str] = "sample_rate"
    parameters: ClassVar[Mapping[str, Parameter] | None] = {
        # 0 wedges the agent for ever, above 1000 Hz it costs more than a third of a core.
        "sample_rate": Parameter(int, 20, min=1, max=1000),
        "mode": Parameter(str, "gil", choices=tuple(_MODES)),
        # In seconds. 0 spins.
        "upload_interval": Parameter(int, 10, min=1, max=3600),
        "mem_enabled": Parameter(bool, False),
        # Frames kept of each allocation's stack.
        "mem_max_nframe": Parameter(int, 128, min=1, max=512),
        # One allocation is sampled for each so many bytes allocated.
        "mem_heap_sample_size": Parameter(int, 512 * 1024, min=4096, max=2**30),
        "mem_enable_mem_domain": Parameter(bool, True),
    }

    def __init__(self, options: PyroscopeOptions, identity: Identity) -> None:
        self._options = options
        self._identity = identity
        self._agent: Any = None
        self._most_threads = 0
        self._sampler = ""
        wrong = _wrong_tags(identity.tags)
        if wrong:
            raise PermanentError(f"tags: expected {wrong}")

    @classmethod
    def estimate(cls, settings: Mapping[str, Value], threads: int) -> float:
        """Measured, with stacks ten frames deep."""
        each_sample = _SAMPLE + _SAMPLE_OF_THREAD * (threads if settings.get("mode") == "wall" else 0)
        rate = settings.get("sample_rate", 20)
        return each_sample * rate if isinstance(rate, int | float) else 0.0

    @classmethod
    def remarks(cls, settings: Mapping[str, Value]) -> Iterable[str]:
        if settings.get("mode") == "wall":
            yield f"Under gevent or eventlet, {_WALL}."

    def start(self, settings: Mapping[str, Value]) -> None:
        if settings.get("mode") == "wall" and green_threads():
            _say("WARNING", f"under {green_threads()}, {_WALL}")
        # Only who starts it pays for these.
        with hold_off_forks():
            from rheostat.plugins import named_threads
            from rheostat_backends.pyroscope.session import SESSION, THREADS, import_agent
            from rheostat_backends.pyroscope.stack_sampler import STACK
        try:
            agent = import_agent()
        except ImportError as error:
            raise PermanentError(str(error)) from error
        arguments = self._arguments(settings)
        sampler = self._choose_sampler(STACK, agent, str(settings.get("mode", "gil")))
        if sampler == "stack":
            arguments["cpu_implementation"] = agent.ProfilerImplementation.Stack
        # Whether the application may fork is not for its log to say.
        silence_on_fork(_ABOUT_FORKS)
        try:
            with hold_off_forks(after=_SETTLING), named_threads(THREADS):
                started = agent.configure(**arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise PermanentError(f"the agent refused its arguments: {error}") from error
        if not started:
            raise TemporaryError(
                "the agent refused to start: it runs already, started by something else in this process, "
                "or is still stopping"
            )
        self._agent = agent
        SESSION.begin()
        # Among green threads there is no choice; and a thread that hands their hub a record holds it up as it ends.
        if sampler != self._sampler and not green_threads():
            _say("DEBUG", f"the agent's sampler is {sampler}")
        self._most_threads, self._sampler = 0, sampler
        if sampler == "stack":
            STACK.begin()

    def _choose_sampler(self, stack: "StackSampler", agent: Any, mode: str) -> str:
        """Raises `PermanentError` where the one that is wanted cannot be used."""
        if self._options.sampler == "pyspy":
            return "pyspy"
        why_not = stack.why_not(agent, mode, self._options.max_threads)
        if why_not and self._options.sampler == "stack":
            raise PermanentError(f"sampler stack cannot be used: {why_not}")
        return "pyspy" if why_not else "stack"

    def probe(self) -> Health:
        """Whether the threads of the session exist: the agent believes in a session that has panicked, too."""
        if sys.platform != "linux":
            return Health("unknown", "the session's threads are only known on Linux")
        from rheostat_backends.pyroscope.session import session_threads
        from rheostat_backends.pyroscope.stack_sampler import STACK

        found = session_threads()
        if found is None:
            return Health("failed", "/proc cannot be read: the agent needs it to sample")
        self._most_threads = max(self._most_threads, found)
        if found <= _MAIMED or found < self._most_threads:
            return Health("failed", f"{found} threads of the agent's session are left: it does not sample")
        distrust = STACK.distrust() if self._sampler == "stack" else ""
        if distrust:
            return Health("failed", f"sampler stack: {distrust}")
        return Health("healthy", f"{found} threads, sampler {self._sampler}")

    def reach(self, timeout: float) -> None:
        """Send the server one empty push, with our credentials; raises BackendError if that is refused."""
        # Only who looks pays for it.
        with hold_off_forks():
            from rheostat_backends.pyroscope.server import refusal

        try:
            # A timeout of the socket's bounds each read, and a server may answer byte by byte.
            error = call_within(lambda: refusal(self._options, timeout), timeout, "rheostat-reach")
        except TimeoutError as late:
            raise TemporaryError(f"{self._options.server_address}: {late}") from None
        if error is not None:
            raise error

    def stop(self) -> None:
        if self._agent is not None:
            from rheostat_backends.pyroscope.session import SESSION

            # False says that no session was left: the agent's own exit handler, or the host, has ended it.
            self._agent.shutdown()
            SESSION.end()
            self._agent = None

    def _arguments(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        options, identity = self._options, self._identity
        tuned = {name: each.default for name, each in (self.parameters or {}).items()} | dict(settings)
        mode = str(tuned.pop("mode"))
        password = options.basic_auth_password
        return {
            "application_name": identity.application,
            "server_address": options.server_address.reveal(),
            "basic_auth_username": options.basic_auth_username,
            "basic_auth_password": "" if password is None else password.reveal(),
            "tenant_id": options.tenant_id,
            "http_headers": options.headers(),
            "tags": {"instance": identity.instance, **identity.tags, **options.tags, MODE_TAG: mode},
            "report_pid": options.report_pid,
            "report_thread_id": options.report_thread_id,
            "report_thread_name": options.report_thread_name,
            # It would write to fd 2 and set RUST_LOG in the environment of every child.
            "enable_logging": False,
            **_MODES[mode],
            **tuned,
        }
