"""Whatever a vendor's package or server does, the host starts, runs, forks and exits as it would without Rheostat."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hosts import (
    KINDS,
    OUR_KEY,
    THEIR_KEY,
    Host,
    Server,
    Told,
    begin,
    config_for,
    serve_rate,
    serve_rate_to,
    server_for,
    written_config,
)
from support.vendors.faults import Fault
from support.vendors.growthbook import GrowthBookServer

PROMPT = 1.0
"""Seconds that starting, opening and closing take at most, on a machine that is busy."""

EXIT = 2.0
"""Seconds in which a process ends."""

CYCLES = 100

BUILD = {
    "growthbook": """
from rheostat_flagsources.growthbook import GrowthBookSource
def build():
    options = GrowthBookSource.Options(client_key=Secret({key!r}), api_host=Url({url!r}), timeout=Duration({patience}))
    return GrowthBookSource(options, identity)
""",
    "launchdarkly": """
from rheostat_flagsources.launchdarkly import LaunchDarklySource
def build():
    options = LaunchDarklySource.Options(sdk_key=Secret({key!r}), relay=Url({url!r}), start_wait=Duration({patience}))
    return LaunchDarklySource(options, identity)
""",
    "openfeature": """
import remote_provider
from rheostat_flagsources.openfeature import OpenFeatureSource
remote_provider.url = {url!r} + "/api/features/" + {key!r}
def build():
    provider = rheostat.plugins.HostObject.from_text("remote_provider:make")
    options = OpenFeatureSource.Options(provider=provider, poll_interval=Duration(0.1), start_wait=Duration({patience}))
    return OpenFeatureSource(options, identity)
""",
}

READING = """
from rheostat.plugins import Duration, Identity, NotReady, Secret, SourceUnavailable, Url
identity = Identity("shop", "host-1", {}, os.getpid())
wanted = {"profiling_enabled": bool, "profiling_rate": int}
def timed(function, *args):
    began = time.monotonic()
    function(*args)
    return time.monotonic() - began
def read():
    try:
        with network:
            return source.read(wanted)
    except SourceUnavailable as unavailable:
        return unavailable
def knows():
    return isinstance(read(), rheostat.plugins.Reading)
def has_decided():
    return not isinstance(read(), NotReady)
def ours():
    return [each.name for each in threading.enumerate() if each.name.startswith(("rheostat", "ldclient"))]
def cycle():
    global source
    source = build()
    source.open(lambda: None)
    until(knows)
    source.close()
"""

THEIR_CLIENTS = {
    "growthbook": """
import growthbook
client = growthbook.GrowthBook(api_host={url!r}, client_key={key!r})
client.load_features()
""",
    "launchdarkly": """
import ldclient
client = ldclient.LDClient(ldclient.Config({key!r}, base_uri={url!r}, stream_uri={url!r}, send_events=False,
                                           diagnostic_opt_out=True))
""",
}
"""How a host makes its own client."""

# Those of the parent's that a child could be tempted to use.
WATCH_BIRTHS = {
    "growthbook": """
import urllib3, urllib3.connection
from ld_eventsource import SSEClient
from rheostat_flagsources.growthbook import GrowthBookSource
from rheostat_flagsources.growthbook.feed import Feed
from rheostat.plugins import VendorLog
births.watch(VendorLog, GrowthBookSource, Feed, SSEClient, urllib3.PoolManager, urllib3.HTTPConnectionPool,
             urllib3.connection.HTTPConnection)
""",
    "launchdarkly": """
import ldclient, urllib3
from ld_eventsource import SSEClient
from ldclient.impl.datasource.streaming import StreamingUpdateProcessor
from ldclient.impl.datasystem.fdv1 import FDv1
from rheostat_flagsources.launchdarkly import LaunchDarklySource
from rheostat.plugins import VendorLog
births.watch(VendorLog, LaunchDarklySource, ldclient.LDClient, FDv1, StreamingUpdateProcessor, SSEClient,
             urllib3.PoolManager, urllib3.HTTPConnectionPool)
""",
    "openfeature": """
import remote_provider
from rheostat_flagsources.openfeature import OpenFeatureSource
from rheostat.plugins import VendorLog
births.watch(VendorLog, OpenFeatureSource, remote_provider.RemoteProvider)
""",
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str) -> Iterator[Server]:
    with server_for(kind) as server:
        serve_rate(server, 97)
        yield server


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as host:
        yield host


def prepare(host: Host, kind: str, server: Server, patience: float = 0.3) -> None:
    """Make `build()` known to the host, and all that goes with it; the source waits that long for its server."""
    host.run(READING + BUILD[kind].format(url=server.url, key=OUR_KEY, patience=patience))


def test_start_leaves_vendors_to_its_own_threads(kind: str, host: Host, tmp_path: Path) -> None:
    """The thread that starts Rheostat neither imports a vendor's package nor waits for its server."""
    package = {"launchdarkly": "ldclient"}.get(kind, kind)
    with server_for(kind) as server:
        server.fault = Fault.HANG
        config = config_for(kind, server, tmp_path).replace("provider: 'remote_provider:make', ", "")
        host.run("imports.watch()")
        host.run(f"import rheostat._config.config; rheostat._config.config.load_config({config!r})")
        assert [] == host.run("[name for name in VENDORS if name in sys.modules]")
        assert host.run(f"start({config!r})") < PROMPT
        host.run(f"until(lambda: {package!r} in sys.modules)")
        host.run(f"until(lambda: not getattr(sys.modules[{package!r}].__spec__, '_initializing', False))")
        assert {"rheostat"} == {name.partition("-")[0] for name in host.run("list(imports.threads.values())")}


def test_reading_never_uses_the_network(kind: str, server: Server, host: Host) -> None:
    """Flags come from memory: the thread that reads connects, sends and receives nothing, from first to last."""
    prepare(host, kind, server)
    host.run("network.watch()")
    host.run("source = build(); source.open(lambda: None)")
    host.run("until(knows)")
    for rate in (10, 20):
        serve_rate(server, rate)
        host.run(f"until(lambda: read().values['profiling_rate'] == {rate})")
    server.fault = Fault.RESET
    host.run("for _ in range(100): read()")
    assert [] == host.run("network.tried")
    host.run("source.close()")


@pytest.mark.parametrize(
    "fault", [None, Fault.HANG, Fault.RESET, Fault.REFUSED, Fault.STREAM_SILENT], ids=lambda fault: fault or "healthy"
)
def test_closing_is_prompt(kind: str, server: Server, host: Host, fault: Fault | None) -> None:
    """Whatever the server does, from the beginning or later, open and close return soon, and close does so twice."""
    prepare(host, kind, server)
    server.fault = fault
    host.run("source = build()")
    assert host.run("timed(source.open, lambda: None)") < PROMPT
    host.run("until(has_decided)")
    assert host.run("timed(source.close)") < PROMPT
    assert host.run("timed(source.close)") < PROMPT

    server.mend()
    host.run("source = build(); source.open(lambda: None); until(knows)")
    server.fault = fault
    host.run("read()")
    assert host.run("timed(source.close)") < PROMPT
    server.mend()
    server.close()
    host.run("until(lambda: not ours())")
    assert [] == host.run("filters()")


def test_closing_at_any_moment(kind: str, server: Server, host: Host) -> None:
    """Before it was opened, right after, and after the first read, itself no wait: close returns soon."""
    prepare(host, kind, server)
    server.fault = Fault.HANG
    host.run("source = build()")
    assert host.run("timed(source.close)") < PROMPT
    host.run("source = build(); source.open(lambda: None)")
    assert host.run("timed(source.close)") < PROMPT
    host.run("source = build(); source.open(lambda: None)")
    assert host.run("timed(read)") < PROMPT
    assert host.run("timed(source.close)") < PROMPT
    server.close()
    host.run("until(lambda: not ours())")
    assert [] == host.run("filters()")


def test_closing_while_a_request_hangs(kind: str, server: Server, host: Host) -> None:
    """A thread that waits for an answer is left behind, however long it would wait."""
    prepare(host, kind, server, patience=30.0)
    host.run("source = build()")
    if kind == "openfeature":
        # So that what hangs is an evaluation.
        host.run("source.open(lambda: None); until(knows)")
    began = time.monotonic()
    server.fault = Fault.HANG
    if kind != "openfeature":
        host.run("source.open(lambda: None); read()")
    server.wait_for(lambda: server.requests and server.requests[-1].at > began)
    assert host.run("timed(source.close)") < PROMPT


@pytest.mark.parametrize("connects", [True, False], ids=["hangs later", "hangs from the beginning"])
def test_exit_is_not_delayed(kind: str, server: Server, host: Host, tmp_path: Path, connects: bool) -> None:
    """With a server that hangs the process ends soon, with its own exit code, and says nothing."""
    if not connects:
        server.fault = Fault.HANG
    begin(host, kind, server, tmp_path)
    if connects:
        host.run("until(lambda: rate() == 97)")
        server.fault = Fault.HANG
    else:
        server.wait_for(lambda: server.requests)
    host.leave(7)
    assert (7, []) == host.ended()
    assert time.monotonic() - host.left_at < EXIT


def test_a_forked_child_has_its_own(kind: str, server: Server, host: Host, tmp_path: Path) -> None:
    """Flips reach parent and child, each as it is targeted, and the parent's stream survives the child's end."""
    begin(host, kind, server, tmp_path)
    host.run("until(lambda: rate() == 97)")

    pid, child = host.fork()
    child.run("until(lambda: rate() == 97)")
    serve_rate_to(server, pid, 5, 42, kind)
    child.run("until(lambda: rate() == 5)")
    host.run("until(lambda: rate() == 42)")
    wait_for_streams(server, kind, 2)
    assert pid == child.run("profiling.status().pid")
    child.leave(3)
    assert 3 == exit_code(host, pid)
    wait_for_streams(server, kind, 1)
    serve_rate(server, 43)
    host.run("until(lambda: rate() == 43)")

    pid, child = host.fork()
    child.run("until(lambda: rate() == 43)")
    child.vanish(4)
    assert 4 == exit_code(host, pid)
    serve_rate(server, 44)
    host.run("until(lambda: rate() == 44)")
    wait_for_streams(server, kind, 1)
    if kind != "openfeature":
        # The parent's stream was never opened again.
        assert 3 == len(server.stream_opens)


def wait_for_streams(server: Server, kind: str, number: int) -> None:
    if kind != "openfeature":
        server.wait_for(lambda: server.streams == number)


def exit_code(host: Told, pid: int) -> int:
    return int(host.run(f"os.waitstatus_to_exitcode(os.waitpid({pid}, 0)[1])"))


def test_a_stop_in_the_child_leaves_the_parent_alone(kind: str, server: Server, host: Host, tmp_path: Path) -> None:
    """The child lets go of its own client only."""
    begin(host, kind, server, tmp_path)
    host.run("until(lambda: rate() == 97)")
    pid, child = host.fork()
    child.run("until(lambda: rate() == 97)")
    assert child.run("profiling.stop()")
    child.leave()
    assert 0 == exit_code(host, pid)
    wait_for_streams(server, kind, 1)
    serve_rate(server, 43)
    host.run("until(lambda: rate() == 43)")


def test_a_child_uses_nothing_of_its_parents(kind: str, server: Server, host: Host, tmp_path: Path) -> None:
    """From fork to stop no method is called there of what was made in the parent: locks and connections are its."""
    host.run(WATCH_BIRTHS[kind])
    begin(host, kind, server, tmp_path)
    host.run("until(lambda: rate() == 97)")
    _, child = host.fork()
    child.run("until(lambda: rate() == 97)")
    serve_rate(server, 43)
    child.run("until(lambda: rate() == 43)")
    assert child.run("profiling.stop()")
    assert [] == child.run("births.wrong")
    child.vanish()


def test_a_child_keeps_no_filter_of_its_parents(kind: str, server: Server, host: Host, tmp_path: Path) -> None:
    """They know the parent's threads, whose identifiers the child's own threads may get."""
    begin(host, kind, server, tmp_path)
    host.run("until(lambda: rate() == 97)")
    before = host.run("len(filters())")
    _, child = host.fork()
    child.run("until(lambda: rate() == 97)")
    assert before == child.run("len(filters())")
    assert child.run("profiling.stop()")
    assert [] == child.run("filters()")
    child.vanish()


@pytest.mark.parametrize("kind", ["openfeature"])
def test_a_child_hears_its_own_threads(kind: str, server: Server, host: Host, tmp_path: Path) -> None:
    """Their records are the application's, though they have the identifiers of threads that worked for Rheostat."""
    begin(host, kind, server, tmp_path)
    host.run("until(lambda: rate() == 97)")
    _, child = host.fork()
    child.run(
        "begun = threading.Barrier(7)\n"
        "def work():\n"
        "    begun.wait(5)\n"
        "    logging.getLogger('openfeature').warning('of the application')\n"
        "workers = [threading.Thread(target=work) for _ in range(6)]\n"
        "for each in workers: each.start()\n"
        "begun.wait(5)\n"
        "for each in workers: each.join()\n"
    )
    assert 6 == child.run("len(records.of_vendors())")
    child.vanish()


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("growthbook", "client = growthbook.GrowthBook(features=client.get_features())"),
        ("launchdarkly", "client.postfork()"),
    ],
)
def test_an_inherited_client_of_the_host_is_refused(kind: str, again: str, host: Host, tmp_path: Path) -> None:
    """It does not work in a forked child: Rheostat says so until the host has made it anew."""
    with server_for(kind, THEIR_KEY) as theirs:
        serve_rate(theirs, 10)
        host.run(THEIR_CLIENTS[kind].format(url=theirs.url, key=THEIR_KEY))
        host.run(f"start({written_config(tmp_path, f'{{kind: {kind}, client: app:client}}')!r})")
        host.run("until(lambda: rate() == 10)")
        _, child = host.fork()
        reason = "app:client: it was made before this process was forked"
        child.run(f"until(lambda: {reason!r} in profiling.status().source.reason)")
        assert child.run("rate()") is None
        child.run(again)
        child.run("until(lambda: rate() == 10)")
        child.vanish()


def test_many_cycles_leave_nothing(kind: str, server: Server, host: Host) -> None:
    """Opening and closing again and again keeps no thread, descriptor, exit handler, filter or listener."""
    prepare(host, kind, server)
    host.run("for _ in range(5): cycle()")
    host.run("until(lambda: not ours())")
    before = host.run("resources()")
    host.run(f"for _ in range({CYCLES}): cycle()")
    host.run("until(lambda: not ours())")
    assert {} == host.run(f"growth({before!r})")
    if isinstance(server, GrowthBookServer):
        server.wait_for(lambda: server.streams == 0)
