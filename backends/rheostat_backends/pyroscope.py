"""The Pyroscope agent (``pyroscope-io``), which samples this process and pushes to a Pyroscope server."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import ascii_letters, digits
from types import MappingProxyType
from typing import Any, ClassVar, Final

from rheostat import (
    Identity,
    InvalidOptions,
    Parameter,
    PermanentError,
    Secret,
    TemporaryError,
    Url,
    Value,
    import_vendor,
)

MODE_TAG: Final = "profiling_mode"
"""The tag that carries the mode: the server cannot tell cpu from wall profiles by anything else."""

_MODES: Final = {
    "gil": {"oncpu": True, "gil_only": True},
    "cpu": {"oncpu": True, "gil_only": False},
    "wall": {"oncpu": False, "gil_only": False},
}
# The agent takes the first as another name of the application, and makes the others itself.
_RESERVED_TAGS: Final = frozenset({"service_name", "__name__", MODE_TAG})
_ONE_CREDENTIAL: Final = "only one of auth_token, basic_auth_username and an Authorization header"
_HEADER_NAME: Final = frozenset(ascii_letters + digits + "!#$%&'*+.^_`|~-")
_ADDRESS = re.compile(
    r"https?://(?:[!-.0-?A-~]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?", re.ASCII
)


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

    def __post_init__(self) -> None:
        wrong = {
            "server_address": _wrong_address(self.server_address.reveal()),
            "auth_token": self._wrong_token(),
            "basic_auth_password": self._wrong_basic(),
            "tenant_id": "" if _fits_header(self.tenant_id) else "printable ASCII on one line",
            "http_headers": _wrong_headers(self.http_headers),
            "tags": _wrong_tags(self.tags),
        }
        wrong = {name: expected for name, expected in wrong.items() if expected}
        if wrong:
            raise InvalidOptions(wrong)

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
        if not name or not _HEADER_NAME.issuperset(name):
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


class PyroscopeBackend:
    """One session of the agent, which is global to the process. Imports the agent at the first start."""

    Options: ClassVar[type] = PyroscopeOptions
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
        wrong = _wrong_tags(identity.tags)
        if wrong:
            raise PermanentError(f"tags: expected {wrong}")

    def start(self, settings: Mapping[str, Value]) -> None:
        try:
            agent = import_vendor("pyroscope", "rheostat[pyroscope]")
        except ImportError as error:
            raise PermanentError(str(error)) from error
        arguments = self._arguments(settings)
        try:
            started = agent.configure(**arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise PermanentError(f"the agent refused its arguments: {error}") from error
        if not started:
            raise TemporaryError(
                "the agent refused to start: it runs already, started by something else in this process, "
                "or is still stopping"
            )
        self._agent = agent

    def stop(self) -> None:
        if self._agent is not None:
            # False says that no session was left: the agent's own exit handler, or the host, has ended it.
            self._agent.shutdown()
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
