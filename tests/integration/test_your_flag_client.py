"""Rheostat and its host use the same vendor's package in one process, and neither notices the other."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.hosts import OUR_KEY, THEIR_KEY, Host, Server, begin, serve_rate, server_for, written_config
from support.vendors.faults import Fault
from support.vendors.growthbook import GrowthBookServer

EXIT: Final = 4.0
"""Seconds; GrowthBook's client alone takes its time to be destroyed."""

MAKE = {
    "growthbook": """
import growthbook
import growthbook.growthbook as sdk
heard = []
sdk.feature_repo.add_feature_update_callback(heard.append)
client = growthbook.GrowthBook(api_host={url!r}, client_key={key!r}, streaming=True)
def value(flag):
    return client.get_feature_value(flag, None)
def singletons():
    repository = sdk.feature_repo
    return [id(repository), id(repository.sse_client), id(repository.http), list(repository.cache.cache),
            [repr(each) for each in repository._feature_update_callbacks], repository.sse_client.is_running]
def close():
    client.destroy(timeout=0.2)
""",
    "launchdarkly": """
import ldclient
heard = []
ldclient.set_config(ldclient.Config({key!r}, base_uri={url!r}, stream_uri={url!r}, send_events=False,
                                    diagnostic_opt_out=True, initial_reconnect_delay=0.1))
client = ldclient.get()
client.flag_tracker.add_listener(lambda change: heard.append(change.key))
context = ldclient.Context.create("somebody")
def value(flag):
    return client.variation(flag, context, None)
def listeners():
    system = client._data_system
    return [len(each._Listeners__listeners) for each in
            (system.flag_change_listeners, system._data_source_update_sink._DataSourceUpdateSinkImpl__status_listeners)]
def singletons():
    return [id(ldclient.get()), ldclient.get() is client, client.is_initialized(), listeners()]
def close():
    client.close()
""",
}
"""How a host makes and uses its own client."""

# As some application has it: not what Rheostat or a vendor would find by itself.
LOGGING = """
for name in LOGGERS[1:]:
    logger = logging.getLogger(name)
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.INFO)
logging.getLogger("ldclient.flag").disabled = True
logging.getLogger("ldclient.flag").propagate = False
"""

PROVIDER = """
from openfeature import api
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

class Provider(InMemoryProvider):
    def __init__(self, **values):
        super().__init__({})
        self.shutdowns = 0
        self.put(**values)

    def put(self, **values):
        self._flags = {name: InMemoryFlag("only", {"only": value}) for name, value in values.items()}
        if hasattr(self, "_on_emit"):
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=list(values)))

    def shutdown(self):
        self.shutdowns += 1

heard = []
theirs = Provider(colour="blue", profiling_enabled=True, profiling_rate=10)
api.set_provider_and_wait(theirs)
api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: heard.append(details.flags_changed))
client = api.get_client()
client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, lambda details: heard.append(details.flags_changed))
def value(flag):
    return client.get_string_value(flag, "")
"""

both_vendors = pytest.mark.parametrize("kind", ["growthbook", "launchdarkly"])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as host:
        yield host


@pytest.fixture
def theirs(kind: str) -> Iterator[Server]:
    """The server of the host's client."""
    with server_for(kind, THEIR_KEY) as server:
        if isinstance(server, GrowthBookServer):
            # Which makes its client call the callbacks of its repository.
            server.stream_event = "features-updated"
        server.set_flags({"colour": "blue", "profiling_rate": 1})
        yield server


@pytest.fixture
def ours(kind: str) -> Iterator[Server]:
    """The server of Rheostat's own client."""
    with server_for(kind) as server:
        serve_rate(server, 97)
        yield server


def make_client(host: Host, kind: str, theirs: Server) -> None:
    host.run(MAKE[kind].format(url=theirs.url, key=THEIR_KEY))
    host.run("until(lambda: value('colour') == 'blue')")
    theirs.wait_for(lambda: theirs.streams == 1)


def repaint(host: Host, theirs: Server, colour: str) -> None:
    """A flip at the host's server arrives at the host, and its listeners are called."""
    host.run("heard.clear()")
    theirs.set_flags({"colour": colour, "profiling_rate": 1})
    host.run(f"until(lambda: heard and value('colour') == {colour!r})")


def retune(host: Host, ours: Server, rate: int) -> None:
    """A flip at Rheostat's server arrives at Rheostat."""
    serve_rate(ours, rate)
    host.run(f"until(lambda: rate() == {rate})")


@both_vendors
@pytest.mark.parametrize("host_is_first", [True, False], ids=["host first", "rheostat first"])
@pytest.mark.parametrize("host_leaves_first", [True, False], ids=["host leaves first", "rheostat leaves first"])
def test_clients_of_both_live_side_by_side(
    host: Host, tmp_path: Path, kind: str, theirs: Server, ours: Server, host_is_first: bool, host_leaves_first: bool
) -> None:
    """Flags, flips, streams, listeners and singletons are the host's own, whoever comes and goes first."""
    host.run(LOGGING)
    loggers = host.run("loggers()")
    if host_is_first:
        make_client(host, kind, theirs)
    begin(host, kind, ours, tmp_path)
    host.run("until(lambda: rate() == 97)")
    if not host_is_first:
        make_client(host, kind, theirs)
    singletons = host.run("singletons()")
    assert loggers == host.run("loggers()")

    assert [1, None] == host.run("[value('profiling_rate'), value('profiling_enabled')]")
    repaint(host, theirs, "green")
    retune(host, ours, 42)
    assert [42, "green", 1] == host.run("[rate(), value('colour'), value('profiling_rate')]")
    assert singletons == host.run("singletons()")

    if host_leaves_first:
        host.run("close()")
        theirs.wait_for(lambda: theirs.streams == 0)
        retune(host, ours, 43)
        assert host.run("profiling.stop()")
    else:
        assert host.run("profiling.stop()")
        ours.wait_for(lambda: ours.streams == 0)
        repaint(host, theirs, "red")
        assert singletons == host.run("singletons()")
        assert (1, 1) == (theirs.streams, len(theirs.stream_opens))
    assert (loggers, []) == (host.run("loggers()"), host.run("filters()"))


def test_launchdarkly_lines_about_the_host_remain(host: Host, tmp_path: Path) -> None:
    """The SDK's records about the host's client are logged, and none of those about Rheostat's."""
    with server_for("launchdarkly", THEIR_KEY) as theirs, server_for("launchdarkly") as ours:
        theirs.set_flags({"colour": "blue"})
        serve_rate(ours, 97)
        make_client(host, "launchdarkly", theirs)
        assert host.run("'ldclient.util INFO Started LaunchDarkly Client: OK' in records.of_vendors()")
        host.run("records.kept.clear()")

        begin(host, "launchdarkly", ours, tmp_path)
        host.run("until(lambda: rate() == 97)")
        ours.fault = Fault.STATUS_503
        host.run("until(lambda: records.of_rheostat('source_unavailable'))")
        ours.wait_for(lambda: len(ours.requests) >= 3)
        assert [] == host.run("records.of_vendors()")

        theirs.fault = Fault.STATUS_503
        host.run("until(lambda: any('WARNING Received HTTP error 503' in each for each in records.of_vendors()))")
        host.run("records.kept.clear()")
        theirs.mend()
        host.run("until(lambda: client.data_source_status_provider.status.state.name == 'VALID')")
        host.run("records.kept.clear()")
        assert host.run("profiling.stop()")
        assert [] == host.run("records.of_vendors()")


def test_growthbook_lines_about_the_host_remain(host: Host, tmp_path: Path) -> None:
    """The SDK's records about the host's evaluations and stream are logged, and none of those about Rheostat's."""
    with server_for("growthbook", THEIR_KEY) as theirs, server_for("growthbook") as ours:
        assert isinstance(ours, GrowthBookServer)
        theirs.set_flags({"colour": "blue"})
        rule = {"parentConditions": [{"id": "gone", "condition": {"value": True}}], "force": 5}
        ours.set_features(
            {
                "profiling_enabled": {"defaultValue": True},
                "profiling_rate": {"defaultValue": 42, "rules": [rule]},
            }
        )
        make_client(host, "growthbook", theirs)
        source = f"{{kind: growthbook, api_host: '{ours.url}', client_key: {OUR_KEY}, poll_interval: 1s}}"
        host.run(f"start({written_config(tmp_path, source)!r})")
        host.run("until(lambda: rate() == 42)")
        ours.fault = Fault.RESET
        host.run("until(lambda: records.of_rheostat('source_unavailable'))")
        assert [] == host.run("records.of_vendors()")

        host.run("value('nowhere')")
        assert ["growthbook.core WARNING Unknown feature nowhere"] == host.run("records.of_vendors()")
        theirs.fault = Fault.STATUS_500
        host.run("until(lambda: any('ERROR Streaming error' in each for each in records.of_vendors()))")


def test_openfeature_lines_about_the_host_remain(host: Host, tmp_path: Path) -> None:
    """A provider of the host's that fails is told of when the host asks it, and not when Rheostat does."""
    host.run(PROVIDER)
    host.run("asked = []")
    host.run("theirs._resolve = lambda *_: asked.append(threading.current_thread().name) or 1 / 0")
    host.run(f"start({written_config(tmp_path, '{kind: openfeature, poll_interval: 100ms}')!r})")
    host.run("until(lambda: len(asked) >= 2)")
    assert {"rheostat-openfeature"} == set(host.run("asked"))
    assert [] == host.run("records.of_vendors()")
    host.run("value('colour')")
    assert 1 == host.run("len(records.of_vendors())")


def test_openfeature_lines_of_the_hosts_new_threads_remain(host: Host, tmp_path: Path) -> None:
    """Those that begin while Rheostat's own provider hangs are the host's all the same."""
    with server_for("openfeature") as ours:
        ours.fault = Fault.HANG
        host.run(PROVIDER)
        begin(host, "openfeature", ours, tmp_path)
        host.run("until(lambda: records.of_rheostat('source_unavailable'))")
        host.run("theirs._resolve = lambda *_: 1 / 0")
        host.run("worker = threading.Thread(target=value, args=('colour',)); worker.start(); worker.join()")
        assert 1 == host.run("len(records.of_vendors())")


def test_growthbook_client_of_the_host(host: Host, tmp_path: Path) -> None:
    """Rheostat uses the features of the host's client, hears of flips, and no callback of the host's is called."""
    with server_for("growthbook", THEIR_KEY) as theirs:
        assert isinstance(theirs, GrowthBookServer)
        serve_experiment(theirs, 10)
        host.run(
            "import growthbook\n"
            "viewed, used = [], []\n"
            f"client = growthbook.GrowthBook(api_host={theirs.url!r}, client_key={THEIR_KEY!r}, streaming=True,\n"
            "    attributes={'id': 'somebody'}, on_feature_usage=lambda *each: used.append(each),\n"
            "    on_experiment_viewed=lambda *each, **more: viewed.append(each))\n"
        )
        theirs.wait_for(lambda: theirs.streams == 1)
        host.run(f"start({written_config(tmp_path, '{kind: growthbook, client: app:client}')!r})")
        host.run("until(lambda: rate() == 10)")
        serve_experiment(theirs, 20)
        assert host.run("until(lambda: rate() == 20)") < 3.0
        assert [[], []] == host.run("[viewed, used]")
        assert host.run("profiling.stop()")

        assert 20 == host.run("client.get_feature_value('profiling_rate', None)")
        assert [1, 1] == host.run("[len(viewed), len(used)]")
        serve_experiment(theirs, 30)
        host.run("until(lambda: client.get_feature_value('profiling_rate', None) == 30)")
        assert (1, 1) == (theirs.streams, len(theirs.stream_opens))


def serve_experiment(server: GrowthBookServer, rate: int) -> None:
    rule = {"key": "trial", "variations": [rate, rate], "weights": [0.5, 0.5], "coverage": 1, "hashAttribute": "id"}
    server.set_features(
        {"profiling_enabled": {"defaultValue": True}, "profiling_rate": {"defaultValue": 1, "rules": [rule]}}
    )


def test_launchdarkly_client_of_the_host(host: Host, tmp_path: Path) -> None:
    """Rheostat listens to the host's client, and neither configures nor closes it."""
    with server_for("launchdarkly", THEIR_KEY) as theirs:
        serve_rate(theirs, 10, colour="blue")
        make_client(host, "launchdarkly", theirs)
        singletons = host.run("singletons()")
        host.run(
            "calls = []\n"
            "ldclient.set_config = lambda config: calls.append('set_config')\n"
            "client.close = lambda: calls.append('close')\n"
        )
        host.run(f"start({written_config(tmp_path, '{kind: launchdarkly, client: app:ldclient.get}')!r})")
        host.run("until(lambda: rate() == 10)")
        assert singletons[-1] != host.run("listeners()")
        serve_rate(theirs, 20, colour="green")
        # It looks by itself only after 10 s.
        assert host.run("until(lambda: rate() == 20)") < 5.0
        assert host.run("profiling.stop()")

        assert singletons == host.run("singletons()")
        assert [] == host.run("calls")
        repaint(host, theirs, "red")
        assert (1, 1) == (theirs.streams, len(theirs.stream_opens))


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("growthbook", "growthbook.GrowthBook(features={flags})"),
        (
            "launchdarkly",
            "ldclient.LDClient(ldclient.Config('sdk', update_processor_class=data, send_events=False))",
        ),
    ],
)
def test_a_client_that_is_made_later(host: Host, tmp_path: Path, kind: str, make: str) -> None:
    """Until the module is imported and the client made, Rheostat says so; then it takes the client up."""
    host.run(f"start({written_config(tmp_path, f'{{kind: {kind}, client: late:client}}')!r})")
    host.run("until(lambda: 'late:client: the application has not imported late' in profiling.status().source.reason)")
    host.run("late = sys.modules['late'] = types.ModuleType('late'); late.client = None")
    host.run("until(lambda: 'late:client: it gave None' in profiling.status().source.reason)")
    host.run(
        "import growthbook, ldclient\n"
        "from ldclient.integrations.test_data import TestData\n"
        "data = TestData.data_source()\n"
        "data.update(data.flag('profiling_enabled').variation_for_all(True))\n"
        "data.update(data.flag('profiling_rate').variations(10).variation_for_all(0))\n"
        "flags = {'profiling_enabled': {'defaultValue': True}, 'profiling_rate': {'defaultValue': 10}}\n"
        f"late.client = {make.format(flags='flags')}"
    )
    assert host.run("until(lambda: rate() == 10)") < 5.0


def test_openfeature_provider_of_the_host(host: Host, tmp_path: Path) -> None:
    """Rheostat asks the host's default provider, hears of flips, and leaves it running."""
    host.run(PROVIDER)
    before = host.run("loggers()")
    host.run(f"start({written_config(tmp_path, '{kind: openfeature}')!r})")
    host.run("until(lambda: rate() == 10)")
    host.run("theirs.put(colour='green', profiling_enabled=True, profiling_rate=20)")
    # It asks by itself only after 30 s.
    assert host.run("until(lambda: rate() == 20)") < 15.0
    host.run("until(lambda: len(heard) == 2)")
    assert host.run("profiling.stop()")
    host.run("theirs.put(colour='red', profiling_enabled=True, profiling_rate=30)")
    host.run("until(lambda: len(heard) == 4)")
    assert ["red", 0, True] == host.run("[value('colour'), theirs.shutdowns, client.provider is theirs]")
    assert (before, []) == (host.run("loggers()"), host.run("filters()"))


def test_openfeature_provider_for_rheostat_alone(host: Host, tmp_path: Path) -> None:
    """It is set for one domain: the host's clients keep theirs, and only ours is shut down in the end."""
    host.run(PROVIDER)
    host.run("ours = Provider(profiling_enabled=True, profiling_rate=97)")
    host.run("elsewhere = api.get_client('elsewhere')")
    host.run(f"start({written_config(tmp_path, '{kind: openfeature, provider: app:ours}')!r})")
    host.run("until(lambda: rate() == 97)")
    assert [True, True] == host.run("[client.provider is theirs, elsewhere.provider is theirs]")
    host.run("from openfeature.provider._registry import provider_registry")
    assert ["rheostat"] == [name.partition("-")[0] for name in host.run("list(provider_registry._providers)")]
    host.run("theirs.put(colour='green', profiling_enabled=True, profiling_rate=20)")
    host.run("until(lambda: len(heard) == 2)")
    host.run("ours.put(profiling_enabled=True, profiling_rate=98)")
    host.run("until(lambda: rate() == 98)")

    assert host.run("profiling.stop()")
    host.run("until(lambda: ours.shutdowns == 1)")
    assert ["green", 0, True] == host.run("[value('colour'), theirs.shutdowns, client.provider is theirs]")


@both_vendors
def test_the_hosts_exit_is_its_own(host: Host, kind: str, theirs: Server, ours: Server, tmp_path: Path) -> None:
    """With both clients alive the process ends at once, with its exit code, and nobody says anything."""
    make_client(host, kind, theirs)
    begin(host, kind, ours, tmp_path)
    host.run("until(lambda: rate() == 97)")
    host.run("import atexit; atexit.register(close)")
    host.leave(7)
    assert (7, []) == host.ended()
    assert time.monotonic() - host.left_at < EXIT
