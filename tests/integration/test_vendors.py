"""The loopback flag servers speak what the real SDKs understand, and each fault is on the wire what it says."""

import gc
import http.client
import json
import queue
import select
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from growthbook import GrowthBook
from growthbook.growthbook import FeatureRepository, decrypt
from ld_eventsource import SSEClient
from ld_eventsource.actions import Event, Start
from ldclient import Context, LDClient
from ldclient.config import Config
from ldclient.interfaces import DataSourceState
from urllib3 import PoolManager

from support.children import PATIENCE
from support.vendors.faults import Fault
from support.vendors.growthbook import DECRYPTION_KEY, GrowthBookServer
from support.vendors.launchdarkly import (
    POLL_PATH,
    STREAM_PATH,
    LaunchDarklyServer,
    flag_of,
    null_flag,
    off_flag,
    ruled_flag,
    unevaluable_flag,
)
from support.vendors.server import FlagServer

QUIET = 0.2
"""Seconds in which what is not to come has not come."""

STATUSES = [fault for fault in Fault if fault.status]
WORKER = Context.builder("host-1").kind("service").set("role", "worker").build()


@dataclass
class Product:
    """A server, and what a client needs to know of it."""

    server: GrowthBookServer | LaunchDarklyServer
    page: str
    stream: str
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self.server.url)
        assert address.hostname is not None
        return http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)

    @contextmanager
    def answer(self, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
        with closing(self.connect()) as connection:
            connection.request("GET", path, headers=self.headers | headers)
            with connection.getresponse() as response:
                yield response

    @contextmanager
    def opened(self) -> Iterator["Reader"]:
        """A stream, with what it begins with read."""
        with self.answer(self.stream) as response:
            reader = Reader(response)
            reader.event()
            yield reader


class Reader:
    """The events of a stream, as they are."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        assert "text/event-stream" == response.headers["Content-Type"]
        self.response = response

    def event(self) -> dict[str, str]:
        """The fields of the next event; nothing at the clean end."""
        fields = {}
        while line := self.response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        return fields

    def is_quiet(self) -> bool:
        return not select.select([self.response], [], [], QUIET)[0]


@pytest.fixture
def growthbook() -> Iterator[GrowthBookServer]:
    with GrowthBookServer() as server:
        server.set_flags({"on": True})
        yield server


@pytest.fixture
def launchdarkly() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        server.set_flags({"on": True})
        yield server


@pytest.fixture(params=["growthbook", "launchdarkly"])
def product(request: pytest.FixtureRequest) -> Product:
    server = request.getfixturevalue(request.param)
    if isinstance(server, GrowthBookServer):
        return Product(server, server.features_path, server.stream_path)
    return Product(server, POLL_PATH, STREAM_PATH, {"Authorization": server.sdk_key})


@contextmanager
def ld_client(
    server: LaunchDarklyServer, sdk_key: str = "", start_wait: float = PATIENCE, **options: Any
) -> Iterator[LDClient]:
    config = Config(
        sdk_key or server.sdk_key,
        base_uri=server.url,
        stream_uri=server.url,
        events_uri=server.url,
        send_events=False,
        diagnostic_opt_out=True,
        initial_reconnect_delay=0.1,
        **options,
    )
    with closing(LDClient(config, start_wait=start_wait)) as client:
        yield client
    for thread in threading.enumerate():
        if thread.name.startswith("ldclient"):
            thread.join(PATIENCE)
    # The SDK leaves the socket of a request that was denied to the garbage collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def changes_of(client: LDClient) -> Iterator["queue.SimpleQueue[str]"]:
    """The keys of the flags that the client sees change."""
    keys: queue.SimpleQueue[str] = queue.SimpleQueue()
    client.flag_tracker.add_listener(lambda change: keys.put(change.key))
    yield keys


def ld_reason(client: LDClient, key: str) -> tuple[object, str, str | None]:
    detail = client.variation_detail(key, WORKER, "default")
    return detail.value, detail.reason["kind"], detail.reason.get("errorKind")


@contextmanager
def growthbook_repository() -> Iterator[FeatureRepository]:
    repository = FeatureRepository()
    repository.http = PoolManager(timeout=PATIENCE, retries=False)
    yield repository
    repository.http.clear()


def load(repository: FeatureRepository, server: GrowthBookServer) -> dict[str, Any] | None:
    return repository.load_features(server.url, server.client_key, server.decryption_key or "", force_refresh=True)


def evaluated(features: dict[str, Any], key: str, **attributes: object) -> object:
    return GrowthBook(features=features, attributes=attributes).eval_feature(key).value


# GrowthBook


def test_growthbook_repository_loads_flags(growthbook: GrowthBookServer) -> None:
    """GrowthBook's SDK loads the features and evaluates them, rules included."""
    growthbook.set_features(
        {"rate": {"defaultValue": 10, "rules": [{"condition": {"role": "worker"}, "force": 97}]}},
    )
    with growthbook_repository() as repository:
        loaded = load(repository, growthbook)
    assert loaded is not None
    features = loaded["features"]
    assert (97, 10) == (evaluated(features, "rate", role="worker"), evaluated(features, "rate", role="web"))


def test_growthbook_repository_uses_the_tag(growthbook: GrowthBookServer) -> None:
    """GrowthBook's SDK is spared what it has, on the same connection."""
    with growthbook_repository() as repository:
        first = load(repository, growthbook)
        assert first == load(repository, growthbook)
        growthbook.set_flags({"on": False})
        assert first != load(repository, growthbook)
    conditions = [request.headers.get("If-None-Match") for request in growthbook.requests]
    assert [None, True, True] == [tag and tag.startswith("W/") for tag in conditions]


def test_growthbook_encrypted(growthbook: GrowthBookServer) -> None:
    """An encrypted payload is read by GrowthBook's own function with the right key, and only with that."""
    groups = {"canaries": ["host-1"]}
    growthbook.decryption_key = DECRYPTION_KEY
    growthbook.set_features({"on": {"defaultValue": True}}, groups)
    payload = growthbook.payload()
    assert {} == payload["features"]
    assert {"on": {"defaultValue": True}} == json.loads(decrypt(payload["encryptedFeatures"], DECRYPTION_KEY))
    with growthbook_repository() as repository:
        loaded = load(repository, growthbook)
        assert loaded is not None
        assert groups == loaded["savedGroups"]
        growthbook.fault = Fault.ENCRYPTED_WRONG
        assert load(repository, growthbook) is None
        growthbook.mend()
        assert load(repository, growthbook) is not None


@pytest.mark.parametrize("stream_event", ["features", "features-updated"])
def test_growthbook_stream(growthbook: GrowthBookServer, stream_event: Any) -> None:
    """A real event-stream client is told each update, with the features or without."""
    growthbook.stream_event = stream_event
    with closing(SSEClient(growthbook.url + growthbook.stream_path)) as client:
        actions = iter(client.all)
        assert isinstance(next(actions), Start)
        growthbook.wait_for(lambda: growthbook.streams)
        growthbook.set_flags({"on": False})
        event = next(actions)
    assert isinstance(event, Event)
    assert stream_event == event.event
    assert (json.dumps(growthbook.payload(), separators=(",", ":")) if stream_event == "features" else "") == event.data


def test_growthbook_unknown_key(growthbook: GrowthBookServer) -> None:
    """A client key that nobody has is not found, neither as a document nor as a stream."""
    product = Product(growthbook, "/api/features/sdk-other", "/sub/sdk-other")
    for path in (product.page, product.stream):
        with product.answer(path) as answer:
            assert (404, "Not Found") == (answer.status, json.load(answer)["error"])


# LaunchDarkly


def test_launchdarkly_client_follows_the_stream(launchdarkly: LaunchDarklyServer) -> None:
    """LaunchDarkly's SDK sees the flags at first, then what is changed, added and removed."""
    with ld_client(launchdarkly) as client, changes_of(client) as changed:
        assert (True, "FALLTHROUGH", None) == ld_reason(client, "on")
        launchdarkly.set_flags({"on": 1, "mode": "wall"})
        assert {"on", "mode"} == {changed.get(timeout=PATIENCE), changed.get(timeout=PATIENCE)}
        value, _, _ = ld_reason(client, "on")
        assert (1, int, "wall") == (value, type(value), client.variation("mode", WORKER, "default"))
        launchdarkly.set_flags({"mode": "wall"})
        assert "on" == changed.get(timeout=PATIENCE)
        assert ("default", "ERROR", "FLAG_NOT_FOUND") == ld_reason(client, "on")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (flag_of("wall"), ("wall", "FALLTHROUGH", None)),
        (off_flag(), ("default", "OFF", None)),
        (null_flag(), (None, "FALLTHROUGH", None)),
        (unevaluable_flag(), ("default", "ERROR", "MALFORMED_FLAG")),
        (ruled_flag("role", ["worker"], then=97, otherwise=10), (97, "RULE_MATCH", None)),
        (ruled_flag("role", ["web"], then=97, otherwise=10), (10, "FALLTHROUGH", None)),
    ],
)
def test_launchdarkly_flags(launchdarkly: LaunchDarklyServer, flag: Any, expected: object) -> None:
    """Each kind of flag is, for LaunchDarkly's SDK, what its name says."""
    launchdarkly.set_raw("flag", flag)
    with ld_client(launchdarkly) as client:
        assert expected == ld_reason(client, "flag")


def test_launchdarkly_client_polls(launchdarkly: LaunchDarklyServer) -> None:
    """LaunchDarkly's SDK reads the same flags when it polls."""
    with ld_client(launchdarkly, stream=False) as client:
        assert (True, "FALLTHROUGH", None) == ld_reason(client, "on")
    assert [POLL_PATH] == [request.path for request in launchdarkly.requests]


def test_launchdarkly_client_survives_a_cut(launchdarkly: LaunchDarklyServer) -> None:
    """LaunchDarkly's SDK comes back after a cut, and then knows what it has missed."""
    with ld_client(launchdarkly) as client, changes_of(client) as changed:
        launchdarkly.fault = Fault.CUT
        launchdarkly.set_flags({"on": False}, push=False)
        launchdarkly.mend()
        assert "on" == changed.get(timeout=PATIENCE)
        assert client.variation("on", WORKER, True) is False
    assert 2 <= len(launchdarkly.stream_opens)


def test_launchdarkly_wrong_key(launchdarkly: LaunchDarklyServer) -> None:
    """Another SDK key is unauthorized, and LaunchDarkly's SDK says so."""
    told = threading.Event()
    with ld_client(launchdarkly, "sdk-other", start_wait=0) as client:
        provider = client.data_source_status_provider
        provider.add_listener(lambda status: told.set())
        assert provider.status.error or told.wait(PATIENCE)
        status = provider.status
    assert (DataSourceState.INITIALIZING, 401) == (status.state, status.error.status_code)


# Both: documents, and what is recorded


def test_requests_and_streams_are_recorded(product: Product) -> None:
    """A server knows what it was asked and when, and which streams are open."""
    before = time.monotonic()
    with product.opened():
        product.server.wait_for(lambda: product.server.asked(product.stream, since=before))
        assert 1 == product.server.streams
    product.server.wait_for(lambda: not product.server.streams)
    assert before <= product.server.stream_opens[0] <= time.monotonic()
    assert [] == product.server.asked(product.stream, since=time.monotonic())


def test_tag(product: Product) -> None:
    """A document has a tag with which it is not sent again, until it has changed."""
    with product.answer(product.page) as first:
        tag = first.headers["ETag"]
    with product.answer(product.page, **{"If-None-Match": tag}) as second:
        assert (304, b"") == (second.status, second.read())
    product.server.set_flags({"on": False})
    with product.answer(product.page, **{"If-None-Match": tag}) as third:
        assert 200 == third.status
        assert tag != third.headers["ETag"]


def test_a_wait_is_bounded(product: Product) -> None:
    """A wait for something that does not come ends in an error that says what did."""
    with product.answer(product.page), pytest.raises(TimeoutError, match=product.page):
        product.server.wait_for(lambda: product.server.streams, timeout=0.01)


def test_updates_in_a_gap_are_not_pushed(product: Product) -> None:
    """An update can be kept from the streams, and a heartbeat carries none."""
    with product.opened() as stream:
        product.server.set_flags({"on": False}, push=False)
        product.server.beat()
        assert "".join(stream.event().values()) == ""
        product.server.set_flags({"on": "pushed"})
        assert "pushed" in stream.event()["data"]


def test_no_thread_or_stream_outlives_the_server(product: Product) -> None:
    """Closing a server ends its open streams, hung requests and idle connections."""
    idle = product.connect()
    with product.opened() as stream, closing(idle), closing(product.connect()) as hung:
        idle.request("GET", product.page, headers=product.headers)
        idle.getresponse().read()
        product.server.fault = Fault.HANG
        hung.request("GET", product.page, headers=product.headers)
        product.server.wait_for(lambda: 3 == len(product.server.requests))
        product.server.close()
        with pytest.raises(http.client.RemoteDisconnected):
            hung.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            stream.response.read()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("flag-server")]


# Both: faults


@pytest.mark.parametrize("server", [GrowthBookServer, LaunchDarklyServer])
def test_faults_that_a_product_does_not_know(server: type[FlagServer]) -> None:
    """Only what is encrypted can be encrypted wrongly."""
    with server() as running:
        for fault in server.faults:
            running.fault = fault
            assert fault is running.fault
        if Fault.ENCRYPTED_WRONG not in server.faults:
            with pytest.raises(ValueError, match="knows no fault"):
                running.fault = Fault.ENCRYPTED_WRONG


def test_hang(product: Product) -> None:
    """A hung server reads requests and answers none; its streams stay open without a word until it is mended."""
    with product.opened() as stream, closing(product.connect()) as connection:
        product.server.fault = Fault.HANG
        connection.request("GET", product.page, headers=product.headers)
        product.server.wait_for(lambda: product.server.asked(product.page))
        product.server.set_flags({"on": False})
        assert not select.select([connection.sock], [], [], QUIET)[0]
        assert stream.is_quiet()
        assert 1 == product.server.streams
        product.server.mend()
        assert 0 == product.server.streams
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            stream.response.read()


def test_cut(product: Product) -> None:
    """Answers, new streams and open streams break off halfway."""
    with product.opened() as stream:
        product.server.fault = Fault.CUT
        assert 0 == product.server.streams
        with pytest.raises(http.client.IncompleteRead) as broken:
            stream.response.read()
        assert broken.value.partial
    for path in (product.page, product.stream):
        with product.answer(path) as answer, pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
        assert broken.value.partial


def test_bad_headers(product: Product) -> None:
    """Answers and new streams have a header that parsers stumble over, and are complete; open streams live on."""
    with product.opened() as stream:
        product.server.fault = Fault.BAD_HEADERS
        product.server.set_flags({"on": False})
        assert stream.event()
    with product.answer(product.page) as answer:
        assert answer.headers.defects
        assert json.loads(answer.read())
    with product.answer(product.stream) as answer:
        assert answer.headers.defects


def test_trickle(growthbook: GrowthBookServer) -> None:
    """Answers have a beginning and no end."""
    growthbook.fault = Fault.TRICKLE
    product = Product(growthbook, growthbook.features_path, growthbook.stream_path)
    with product.answer(product.page) as answer:
        assert 200 == answer.status
        assert b"   " == answer.read(3)


def test_reset(product: Product) -> None:
    """Requests and open streams are reset."""
    with product.opened() as stream:
        product.server.fault = Fault.RESET
        with pytest.raises(ConnectionResetError):
            stream.response.read()
    for path in (product.page, product.stream):
        with pytest.raises(ConnectionResetError), product.answer(path):
            pass


@pytest.mark.parametrize("fault", STATUSES)
def test_statuses(product: Product, fault: Fault) -> None:
    """Every answer has the status; open streams end cleanly."""
    with product.opened() as stream:
        product.server.fault = fault
        assert b"" == stream.response.read()
    for path in (product.page, product.stream):
        with product.answer(path) as answer:
            assert (fault.status, fault.status) == (answer.status, json.load(answer)["status"])
            assert ("1" if fault is Fault.STATUS_429 else None) == answer.headers["Retry-After"]


def test_garbage(product: Product) -> None:
    """Documents and events are no text; once mended, open streams say what is true."""
    with product.opened() as stream:
        product.server.fault = Fault.GARBAGE
        with pytest.raises(UnicodeDecodeError):
            stream.event()
        with product.answer(product.page) as page, pytest.raises(UnicodeDecodeError):
            page.read().decode()
        stream.event()
        product.server.mend()
        assert "on" in stream.event()["data"]


def test_garbage_at_the_start_of_a_stream(product: Product) -> None:
    """A new stream begins with what is no text."""
    product.server.fault = Fault.GARBAGE
    with pytest.raises(UnicodeDecodeError), product.opened():
        pass


@pytest.mark.parametrize(("fault", "content"), [(Fault.HTML, b"<!doctype html>"), (Fault.EMPTY, b"")])
def test_html_and_empty(product: Product, fault: Fault, content: bytes) -> None:
    """A login page, or nothing, comes with status 200 for documents and streams alike."""
    with product.opened() as stream:
        product.server.fault = fault
        assert b"" == stream.response.read()
    for path in (product.page, product.stream):
        with product.answer(path) as answer:
            assert (200, content) == (answer.status, answer.read()[: len(b"<!doctype html>")])
            assert ("text/html" in answer.headers["Content-Type"]) is (fault is Fault.HTML)


def test_malformed(product: Product) -> None:
    """The envelope is proper, the flags in it are none, in documents and on open streams."""
    name = "features" if isinstance(product.server, GrowthBookServer) else "flags"
    with product.opened() as stream:
        product.server.fault = Fault.MALFORMED
        pushed = json.loads(stream.event()["data"])
    with product.answer(product.page) as page:
        flags = json.load(page)[name]
    assert {"on"} == flags.keys()
    assert flags == pushed.get("data", pushed)[name]
    assert not isinstance(flags["on"], dict) or "yes" == flags["on"]["on"]


def test_malformed_for_growthbook(growthbook: GrowthBookServer) -> None:
    """GrowthBook's SDK does not survive malformed features."""
    growthbook.fault = Fault.MALFORMED
    with pytest.raises(AttributeError):
        GrowthBook().set_payload(growthbook.payload())


def test_malformed_for_launchdarkly(launchdarkly: LaunchDarklyServer) -> None:
    """LaunchDarkly's SDK drops a stream with malformed flags, keeps the old ones, and recovers."""
    with ld_client(launchdarkly) as client, changes_of(client) as changed:
        launchdarkly.fault = Fault.MALFORMED
        launchdarkly.wait_for(lambda: 2 <= len(launchdarkly.stream_opens))
        assert client.variation("on", WORKER, "default") is True
        launchdarkly.set_flags({"on": False}, push=False)
        launchdarkly.mend()
        assert "on" == changed.get(timeout=PATIENCE)


def test_stream_ends_at_once(product: Product) -> None:
    """A stream ends cleanly after what it begins with, an open one now; documents are served."""
    with product.opened() as stream:
        product.server.fault = Fault.STREAM_ENDS_AT_ONCE
        assert b"" == stream.response.read()
    with product.opened() as stream:
        assert b"" == stream.response.read()
    with product.answer(product.page) as page:
        assert 200 == page.status


def test_stream_ends_every_second(product: Product) -> None:
    """A stream takes pushes for a second and ends cleanly."""
    product.server.fault = Fault.STREAM_ENDS_EVERY_SECOND
    with product.opened() as stream:
        product.server.wait_for(lambda: product.server.streams)
        product.server.set_flags({"on": "pushed"})
        assert "pushed" in stream.event()["data"]
        assert b"" == stream.response.read()
        assert 0.9 < time.monotonic() - product.server.stream_opens[0] < PATIENCE


def test_stream_silent(product: Product) -> None:
    """Old and new streams are open and say nothing, until mending drops them; documents are served."""
    with product.opened() as old:
        product.server.fault = Fault.STREAM_SILENT
        with product.answer(product.stream) as response:
            product.server.wait_for(lambda: 2 == product.server.streams)
            product.server.set_flags({"on": False})
            with product.answer(product.page) as page:
                assert b"false" in page.read()
            assert old.is_quiet()
            assert Reader(response).is_quiet()
            product.server.mend()
            assert 0 == product.server.streams


def test_refused(product: Product) -> None:
    """Connections are refused, open ones end, and the same port answers once mended."""
    url = product.server.url
    with product.opened() as stream, closing(product.connect()) as idle:
        idle.request("GET", product.page, headers=product.headers)
        idle.getresponse().read()
        product.server.fault = Fault.REFUSED
        with pytest.raises(http.client.IncompleteRead):
            stream.response.read()
        assert b"" == idle.sock.recv(1)
    with pytest.raises(ConnectionRefusedError), product.answer(product.page):
        pass
    product.server.mend()
    assert url == product.server.url
    with product.answer(product.page) as page:
        assert 200 == page.status
