"""Profiles by OTLP: the Pyroscope agent, to any OpenTelemetry collector that takes the profiles signal over HTTP."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rheostat.plugins import (
    BackendError,
    Duration,
    FilePath,
    Identity,
    PermanentError,
    Secret,
    TemporaryError,
    Url,
    call_within,
    import_vendor,
)
from rheostat_backends.pyroscope.loopback import LoopbackBackend, LoopbackOptions

if TYPE_CHECKING:
    from rheostat_backends.pyroscope.push import PushedProfile

_REQUIREMENT: Final = "rheostat[otlp]"
_ADDRESS = re.compile(r"https?://(?:[!-.0-?A-~]*@)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!-~]*)?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_LEAST: Final = 0.01
_LONGEST: Final = 60.0


# Nobody compares options, and each method that a dataclass writes costs the importing process.
@dataclass(frozen=True, kw_only=True, eq=False)
class OtlpOptions(LoopbackOptions):
    """The ``backend`` section: the collector, who asks it to take profiles, and how long that may take (seconds)."""

    endpoint: Url = field(default_factory=lambda: Url("http://localhost:4318"))
    headers: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    timeout: Duration = Duration(5.0)
    ca_file: FilePath | None = None
    report_pid: bool = False

    def wrong(self) -> dict[str, str]:
        wrong = super().wrong()
        if not _ADDRESS.fullmatch(self.endpoint.reveal()):
            wrong["endpoint"] = "a URL like http://localhost:4318, with http or https and a host"
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name):
                wrong["headers"] = "header names of letters, digits and dashes"
            elif not (value.reveal().isascii() and value.reveal().isprintable()):
                wrong["headers"] = f"printable ASCII on one line as the value of {name}"
        if not _LEAST <= self.timeout <= _LONGEST:
            wrong["timeout"] = "10ms to 1m"
        return wrong


class OtlpBackend(LoopbackBackend):
    """Each upload interval becomes one request of OTLP's profiles service, which is in development (v1development)."""

    Options: ClassVar[type] = OtlpOptions

    def __init__(self, options: OtlpOptions, identity: Identity) -> None:
        super().__init__(options, identity)
        self._options = options
        self._collector: Any = None
        self._request: Any = None

    def prepare(self) -> None:
        """Raises PermanentError if the installed messages are not those that are sent."""
        if self._collector is not None:
            return
        try:
            request = import_vendor("rheostat_backends.pyroscope.otlp_request", _REQUIREMENT)
            collector = import_vendor("rheostat_backends.pyroscope.otlp_collector", _REQUIREMENT)
        except ImportError as error:
            raise PermanentError(str(error)) from error
        if missing := request.missing():
            raise PermanentError(f"opentelemetry-proto has no {missing}: pip install --upgrade '{_REQUIREMENT}'")
        options = self._options
        headers = {name: value.reveal() for name, value in options.headers.items()}
        self._request = request
        self._collector = collector.Collector(options.endpoint, headers, options.timeout, options.ca_file)

    def deliver(self, profiles: Iterable["PushedProfile"]) -> None:
        extra = {"process.pid": self._identity.pid} if self._options.report_pid else {}
        self._collector.send(self._request.export_request(profiles, extra))

    def reach(self, timeout: float) -> None:
        """Raises BackendError if the collector did not take the last profiles, or takes no request without any."""
        trouble = self.undelivered()
        if trouble is None:
            self.prepare()
            empty = self._request.export_request((), {})
            try:
                # A name is resolved for as long as that takes.
                call_within(lambda: self._collector.send(empty, timeout), timeout, "rheostat-reach")
            except TimeoutError as late:
                trouble = TemporaryError(f"{self._options.endpoint}: {late}")
            except Exception as error:
                trouble = error
        if isinstance(trouble, BackendError):
            # The same exception raised again and again would make its traceback grow.
            raise type(trouble)(str(trouble))
        if trouble is not None:
            raise TemporaryError(f"{self._options.endpoint}: the profiles were lost ({type(trouble).__name__})")
