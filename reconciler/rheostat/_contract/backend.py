"""The contract of backends: the profilers that are controlled."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Literal, NamedTuple, Protocol, runtime_checkable

from rheostat._contract.values import Value


class BackendError(Exception):
    """A backend could not start or stop its session."""


BackendError.__module__ = "rheostat.plugins"


class TemporaryError(BackendError):
    """Trying the same again later may succeed: it is retried with backoff."""


TemporaryError.__module__ = "rheostat.plugins"


class PermanentError(BackendError):
    """The same settings will fail again: nothing is tried until the desired state changes."""


PermanentError.__module__ = "rheostat.plugins"


class Parameter(NamedTuple):
    """A setting that a backend lets be tuned: a type, a default, and hard limits that no configuration can widen."""

    type: type[bool] | type[int] | type[float] | type[str]
    default: Value
    min: int | float | None = None
    max: int | float | None = None
    choices: tuple[Value, ...] | None = None


Parameter.__module__ = "rheostat.plugins"


class Health(NamedTuple):
    """Whether the session really samples, with the evidence in words."""

    status: Literal["healthy", "failed", "unknown"]
    detail: str = ""


Health.__module__ = "rheostat"


UNKNOWN_HEALTH: Final = Health("unknown")


@runtime_checkable
class Backend(Protocol):
    """A profiler. Built as ``Class(options, identity)``, in the control thread.

    `start` and `stop` are called one at a time, never concurrently, from a thread of their own.
    """

    Options: ClassVar[type]
    """A frozen, keyword-only dataclass, decoded from the ``backend`` section; unknown keys are errors."""

    parameters: ClassVar[Mapping[str, Parameter] | None]
    """The settings that may be tuned, by name. None: any."""

    def start(self, settings: Mapping[str, Value]) -> None:
        """Start the session. Raises `TemporaryError` or `PermanentError`; after any exception none is left running."""

    def stop(self) -> None:
        """Flush and end the session. Without a session it does nothing."""


Backend.__module__ = "rheostat.plugins"


@runtime_checkable
class Reachable(Protocol):
    """Beside `Backend`: it can tell whether its server would take what it delivers."""

    def reach(self, timeout: float) -> None:
        """Send the server one request that delivers nothing, with the configured credentials, within `timeout` seconds.

        Raises `BackendError` with what is wrong. Called by ``rheostat check --online``, and now and then while a
        session runs: in a thread of its own, maybe beside any other call.
        """


Reachable.__module__ = "rheostat.plugins"


@runtime_checkable
class Remarking(Protocol):
    """The part of a backend beside `Backend` that knows what a session will not show, or what it costs."""

    @classmethod
    def remarks(cls, settings: Mapping[str, Value]) -> Iterable[str]:
        """One sentence for each such thing that holds with these settings; ``rheostat plan`` prints them."""


Remarking.__module__ = "rheostat.plugins"


@runtime_checkable
class Forgoing(Protocol):
    """The part of a backend beside `Backend` that knows settings of other profilers which it cannot honour.

    A configuration that is made for one of these stays valid with it, and its flags may change: no session is started
    anew for them, and `start` is not given them.
    """

    without_effect: ClassVar[Mapping[str, str]]
    """By setting, one sentence on why it has none; ``rheostat plan`` prints those that are configured."""


Forgoing.__module__ = "rheostat.plugins"


@runtime_checkable
class Estimating(Protocol):
    """The part of a backend beside `Backend` that can tell beforehand what a session will cost."""

    @classmethod
    def estimate(cls, settings: Mapping[str, Value], threads: int) -> float:
        """The share of one core that a session with these settings takes in a process with so many threads.

        Only a first guess, for a start under a budget: what the session really takes is measured.
        """


Estimating.__module__ = "rheostat.plugins"


@runtime_checkable
class Probing(Protocol):
    """The part of a backend beside `Backend` that can tell whether its session is alive."""

    def probe(self) -> Health:
        """Is it really sampling? Evidence, not hope."""


Probing.__module__ = "rheostat.plugins"
