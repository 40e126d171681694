"""The options of the Pyroscope agent, checked for all that the agent does not check."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from rheostat.plugins import InvalidOptions, Secret, Url

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
            "tags": wrong_tags(self.tags),
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


def wrong_tags(tags: Mapping[str, str]) -> str:
    for name, value in tags.items():
        if name in _RESERVED_TAGS:
            return f"other tags than {name}, which Rheostat or the agent sets itself"
        if name.startswith(".") or not (name.isascii() and name.replace(".", "_").isidentifier()):
            return f"tag names of letters, digits, dots and underscores, unlike {name!r}"
        if not value or not value.isprintable():
            return f"a printable text as the value of {name}"
    return ""
