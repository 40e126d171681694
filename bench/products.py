"""The flag products that both sides are measured with: servers on loopback, and a provider of the application's own."""

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from rheostat._config.config import load_config
from rheostat.plugins import FlagSource, NotReady, Reading

from .child import ChildFailed, environment
from .flags import OFF, OTHERS, Flags
from .stage import Stage

GROWTHBOOK: Final = "GrowthBook"
LAUNCHDARKLY: Final = "LaunchDarkly"
OPENFEATURE: Final = "OpenFeature"
PRODUCTS: Final = (GROWTHBOOK, LAUNCHDARKLY, OPENFEATURE)
SERVED: Final = (GROWTHBOOK, LAUNCHDARKLY)
"""Those that have a server; OpenFeature's provider is in the process."""


_DEFAULTS: Final[Flags] = {"profiling_enabled": False, "profiling_sample_rate": 20, "profiling_mode": "gil"}
KEY: Final = "sdk-00000000-0000-0000-0000-000000000000"
_ROOT: Final = Path(__file__).resolve().parent.parent
_PATIENCE: Final = 10.0

_SERVER: Final = """\
import json, sys, time
from tests.support.vendors.faults import Fault
from tests.support.vendors.growthbook import GrowthBookServer
from tests.support.vendors.launchdarkly import LaunchDarklyServer

kind, key = sys.argv[1:]
with {"GrowthBook": GrowthBookServer, "LaunchDarkly": LaunchDarklyServer}[kind](key) as server:
    print(server.url, flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        # On Linux one clock for all processes.
        at = time.perf_counter()
        if isinstance(told, int):
            server.wait_for(lambda: server.streams == told)
        elif told is None:
            server.fault = Fault.HANG
        else:
            server.set_flags(told)
        print(at, flush=True)
"""


class Product(Protocol):
    """Has flags, and tells clients when they change."""

    url: str

    def say(self, flags: Flags) -> float:
        """Make these the flags; the moment (`time.perf_counter`) at which that was begun."""

    def wait_for_streams(self, number: int) -> None:
        """Return once so many clients are connected."""


class Server:
    """One in a process of its own: it must not hold our GIL."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout
        self.url = self._output.readline().strip()
        self.say(OFF)

    def say(self, flags: Flags) -> float:
        return self._tell({**OTHERS, **flags})

    def wait_for_streams(self, number: int) -> None:
        self._tell(number)

    def hang(self) -> None:
        """Answer nothing any more, and fall silent on the streams."""
        self._tell(None)

    def _tell(self, what: object) -> float:
        self._input.write(json.dumps(what) + "\n")
        self._input.flush()
        answer = self._output.readline()
        if not answer:
            raise ChildFailed(f"the product's server ended when it was told {what}")
        return float(answer)


@contextmanager
def product(name: str) -> Iterator[Product]:
    """The server of one of them, or the provider that the application in this process has set."""
    if name == OPENFEATURE:
        from .provider import Provider

        yield Provider.set()
    else:
        with server(name) as served:
            yield served


@contextmanager
def server(name: str) -> Iterator[Server]:
    """It ends with this process, whatever becomes of that."""
    command = [sys.executable, "-c", _SERVER, name, KEY]
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def section(name: str, url: str) -> str:
    """The section of the configuration, as YAML."""
    return {
        GROWTHBOOK: f'{{kind: growthbook, client_key: {KEY}, api_host: "{url}"}}',
        LAUNCHDARKLY: f'{{kind: launchdarkly, sdk_key: {KEY}, relay: "{url}"}}',
        OPENFEATURE: "{kind: openfeature}",
    }[name]


class Sourced:
    """Rheostat's source for a product, as its configuration builds it, without the rest."""

    def __init__(self, where: Path, name: str, url: str) -> None:
        config = load_config(Stage(where, source=section(name, url)).config)
        wiring = config.wire()
        self.source: FlagSource = wiring.sources[""].build(config.identity())
        self.wanted = wiring.rules.wanted

    def open(self, changed: Callable[[], None] = lambda: None) -> None:
        """Return once it has flags."""
        self.source.open(changed)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.read()
                return
            except NotReady:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def read(self) -> Reading:
        return self.source.read(self.wanted)


def client(name: str, url: str) -> Callable[[], Flags]:
    """The naive thread's reader of flags: the SDK's client as its documentation makes it, but for the addresses."""
    return {GROWTHBOOK: _growthbook, LAUNCHDARKLY: _launchdarkly, OPENFEATURE: _openfeature}[name](url)


def _growthbook(url: str) -> Callable[[], Flags]:
    from growthbook import GrowthBook

    made = GrowthBook(api_host=url, client_key=KEY, streaming=True)
    made.load_features()
    return lambda: {flag: made.get_feature_value(flag, default) for flag, default in _DEFAULTS.items()}


def _launchdarkly(url: str) -> Callable[[], Flags]:
    from ldclient import Config, Context, LDClient

    made = LDClient(Config(KEY, base_uri=url, stream_uri=url, events_uri=url))
    context = Context.create("host")
    return lambda: {flag: made.variation(flag, context, default) for flag, default in _DEFAULTS.items()}


def _openfeature(_: str) -> Callable[[], Flags]:
    from openfeature.api import get_client

    made = get_client()
    get = {bool: made.get_boolean_value, int: made.get_integer_value, str: made.get_string_value}
    return lambda: {flag: get[type(default)](flag, default) for flag, default in _DEFAULTS.items()}  # type: ignore[operator]


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Run no exit handler that is registered in the block: that of GrowthBook's client takes 10 s."""
    try:
        yield
    finally:
        atexit.register(os._exit, 0)
