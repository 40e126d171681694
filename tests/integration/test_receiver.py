import gzip
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pyroscope
import pytest
from google.protobuf import descriptor_pool

from rheostat.receive.receiver import CPU, PUSH_PATH, Profile, Receiver, Sample, hottest
from support.children import PATIENCE

EMPTY_PPROF = b"\x32\x00"  # a string_table that holds only "", its mandatory first entry


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def crunch() -> int:
    total = 0
    for number in range(100_000):
        total += number * number
    return total


def crunch_for(cpu_seconds: float) -> None:
    end = time.thread_time() + cpu_seconds
    while time.thread_time() < end:
        crunch()


def allocate() -> bytearray:
    return bytearray(2**16)


@contextmanager
def busy(work: Callable[[], object] = crunch, name: str = "busy") -> Iterator[None]:
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=loop, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def agent(receiver: Receiver, upload_interval: int = 1, **settings: object) -> Iterator[None]:
    assert pyroscope.configure(
        application_name="app", server_address=receiver.address, upload_interval=upload_interval, **settings
    )
    try:
        yield
    finally:
        assert pyroscope.shutdown()


def connect(receiver: Receiver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(receiver)), timeout=PATIENCE)


def port_of(receiver: Receiver) -> int:
    return int(receiver.address.removeprefix("http://127.0.0.1:"))


def send(
    receiver: Receiver, body: bytes, path: str = PUSH_PATH, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    request = Request(receiver.address + path, data=body, headers=dict(headers or {}), method="POST")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def nested(*payloads: bytes, number: int = 1) -> bytes:
    """Encode each payload (of up to 127 bytes) as a length-delimited protobuf field."""
    return b"".join(bytes([number << 3 | 2, len(payload)]) + payload for payload in payloads)


def push_of(pprof: bytes, app: bytes = b"app") -> bytes:
    labels = nested(nested(b"service_name") + nested(app, number=2))
    return nested(labels + nested(nested(pprof), number=2))


def anything(profile: Profile) -> bool:
    return True


@pytest.mark.parametrize("rate", [20, 100, 250])
def test_cpu_profile_has_rate_and_tags(receiver: Receiver, rate: int) -> None:
    """A real agent's CPU profile arrives with the rate it was asked for, its tags and its application."""
    with busy(), agent(receiver, sample_rate=rate, tags={"mode": "gil"}):
        profile = receiver.wait_for(lambda profile: profile.sample_rate == rate, PATIENCE)

    assert {"mode": "gil", "service_name": "app", "__name__": "process_cpu"}.items() <= profile.labels.items()
    assert profile.sample_types == (CPU,)
    assert 1e9 / rate == profile.period_ns
    assert profile.headers["content-type"] == "application/proto"


def test_stacks_are_leaf_first(receiver: Receiver) -> None:
    """A busy function is the leaf of the hottest stacks, with its callers behind it."""
    with busy(), agent(receiver):
        profile = receiver.wait_for(lambda profile: bool(profile.samples), PATIENCE)

    name, share = hottest([profile], 1)[0]
    assert name == "crunch"
    assert 0 < share <= 1
    stack = max(profile.samples, key=lambda sample: sample.values).stack
    assert stack[:2] == ("crunch", "busy.<locals>.loop")
    assert stack[-1] == "Thread._bootstrap"


def test_thread_names_are_sample_labels(receiver: Receiver) -> None:
    """With report_thread_name the samples say which thread they are of, in any alphabet."""
    with busy(name="wörker"), agent(receiver, report_thread_name=True):
        profile = receiver.wait_for(lambda profile: bool(profile.samples), PATIENCE)

    assert "wörker" in {sample.labels["thread_name"] for sample in profile.samples}


def test_memory_profile_arrives_beside_the_cpu_profile(receiver: Receiver) -> None:
    """A memory profile has four values per sample, no rate, and is a profile apart from the CPU's."""
    with busy(allocate), agent(receiver, mem_enabled=True):
        memory = receiver.wait_for(lambda profile: profile.labels["__name__"] == "memory", PATIENCE)
        cpu = receiver.wait_for(lambda profile: profile.sample_types == (CPU,), PATIENCE)

    assert memory.sample_types == (
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes",
    )
    assert (memory.period_ns, memory.sample_rate) == (0, None)
    assert "allocate" in hottest([memory, cpu], 1, "alloc_space/bytes")[0]
    assert cpu.labels["__name__"] == "process_cpu"


def test_shutdown_has_delivered_its_last_window(receiver: Receiver) -> None:
    """The window that the agent flushes while it shuts down is there once its shutdown() has returned."""
    with agent(receiver, upload_interval=60):
        crunch_for(0.2)

    (profile,) = receiver.profiles()
    assert any("crunch_for" in sample.stack for sample in profile.samples)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no protobuf", {}),
        (b"no gzip", {"Content-Encoding": "gzip"}),
        (gzip.compress(push_of(EMPTY_PPROF))[:-4], {"Content-Encoding": "gzip"}),
        (push_of(b"no protobuf"), {}),
        (push_of(b"\x1f\x8bno gzip"), {}),
        (push_of(b""), {}),
        (push_of(EMPTY_PPROF + nested(b"\x08\x07")), {}),
        (push_of(EMPTY_PPROF + nested(b"\x08" + b"\xff" * 9 + b"\x01")), {}),
        (push_of(EMPTY_PPROF + nested(b"\x0a\x01\x01", number=2)), {}),
        (push_of(EMPTY_PPROF + nested(b"\x12\x01\x01", number=2)), {}),
        (push_of(EMPTY_PPROF, app=b"\xff"), {}),
    ],
    ids=[
        "protobuf",
        "gzip",
        "truncated-gzip",
        "pprof",
        "gzipped-pprof",
        "no-string-table",
        "string-index",
        "negative-string-index",
        "location-index",
        "value-count",
        "utf-8",
    ],
)
def test_malformed_body_is_refused(receiver: Receiver, body: bytes, headers: Mapping[str, str]) -> None:
    """A malformed body gets a 400 that says so and is not kept, and the server goes on."""
    status, text = send(receiver, body, headers=headers)

    assert status == 400
    assert text.startswith("malformed push: ")
    assert receiver.profiles() == ()
    assert send(receiver, push_of(EMPTY_PPROF)) == (200, "")


def test_agent_is_heard_after_a_malformed_body(receiver: Receiver) -> None:
    """A malformed body between two pushes of an agent does not keep the second one out."""
    with busy(), agent(receiver):
        receiver.wait_for(anything, PATIENCE)
        assert send(receiver, b"no protobuf")[0] == 400
        receiver.wait_for(anything, PATIENCE, since=len(receiver.profiles()))


def test_gzipped_pprof_is_decoded(receiver: Receiver) -> None:
    """A pprof that is itself compressed is decoded like a plain one."""
    assert send(receiver, push_of(gzip.compress(EMPTY_PPROF))) == (200, "")

    assert [profile.labels["service_name"] for profile in receiver.profiles()] == ["app"]


@pytest.mark.parametrize("status", [401, 500])
def test_status_is_what_a_client_sees(receiver: Receiver, status: int) -> None:
    """The status that was set is the answer to a good push, which is then not kept."""
    receiver.status = status

    assert (status, "") == send(receiver, push_of(EMPTY_PPROF))
    assert receiver.profiles() == ()


def test_agent_is_heard_after_a_failing_server(receiver: Receiver) -> None:
    """Pushes are lost while the server answers 500, and later ones arrive."""
    receiver.status = 500
    with agent(receiver, upload_interval=60):
        crunch_for(0.2)
    with pytest.raises(TimeoutError, match=r"arrived: nothing; refused: \{'500': 1\}"):
        receiver.wait_for(anything, 0)

    receiver.status = 200
    with busy(), agent(receiver):
        receiver.wait_for(anything, PATIENCE)


def test_other_paths_are_not_served(receiver: Receiver) -> None:
    """A push to another path gets a 404 that names the right one."""
    assert (404, f"only {PUSH_PATH} is served") == send(receiver, push_of(EMPTY_PPROF), path="/ingest")


def test_request_without_length_is_refused(receiver: Receiver) -> None:
    """A request that does not say how long it is gets a 400 at once."""
    with connect(receiver) as client:
        client.sendall(f"POST {PUSH_PATH} HTTP/1.1\r\n\r\n".encode())
        assert b" 400 " in client.makefile("rb").readline()


def test_timeout_says_what_arrived(receiver: Receiver) -> None:
    """The message of a TimeoutError names the profiles that came instead, and what was refused."""
    send(receiver, push_of(EMPTY_PPROF, app=b"another"))
    send(receiver, b"no protobuf")

    with pytest.raises(TimeoutError, match=r"arrived: .*'another'.*: 1\}; refused: .*400 malformed"):
        receiver.wait_for(lambda profile: profile.labels["service_name"] == "app", 0)


def test_since_leaves_older_profiles_out(receiver: Receiver) -> None:
    """Only profiles from the index `since` on are considered."""
    send(receiver, push_of(EMPTY_PPROF, app=b"old"))
    send(receiver, push_of(EMPTY_PPROF, app=b"new"))

    assert receiver.wait_for(anything, 0).labels["service_name"] == "old"
    assert receiver.wait_for(anything, 0, since=1).labels["service_name"] == "new"
    with pytest.raises(TimeoutError, match="arrived: nothing"):
        receiver.wait_for(anything, 0, since=2)


def test_clear_forgets_and_restarts_the_index(receiver: Receiver) -> None:
    """After clear() nothing is left and the next profile has index 0."""
    send(receiver, push_of(EMPTY_PPROF, app=b"old"))
    receiver.clear()
    assert receiver.profiles() == ()

    send(receiver, push_of(EMPTY_PPROF, app=b"new"))
    assert [profile.labels["service_name"] for profile in receiver.profiles()] == ["new"]


def test_closing_leaves_nothing_behind() -> None:
    """After the block the thread is gone, connections are refused, and the port can be used again."""
    before = set(threading.enumerate())
    with Receiver() as receiver:
        (thread,) = set(threading.enumerate()) - before
        assert (thread.name, thread.daemon) == ("rheostat-receiver", True)
        send(receiver, push_of(EMPTY_PPROF))

    assert before == set(threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        connect(receiver)
    with Receiver(port_of(receiver)) as second:
        assert receiver.address == second.address
        assert send(second, push_of(EMPTY_PPROF)) == (200, "")


@pytest.mark.parametrize("beginning", [b"", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"], ids=["head", "body"])
def test_closing_is_bounded_with_a_silent_client(beginning: bytes) -> None:
    """A client that connects and then says no more delays closing by a few seconds at most."""
    before = set(threading.enumerate())
    with Receiver() as receiver:
        client = connect(receiver)
        client.sendall(beginning)
        closing = time.monotonic()

    with client:
        assert time.monotonic() - closing < 5
        assert before == set(threading.enumerate())


def test_output_stays_quiet(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither good nor bad requests nor clients that go away write anything to the terminal."""
    with connect(receiver) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(f"POST {PUSH_PATH} HTTP/1.1\r\nContent-Length: 9\r\n\r\n".encode())
    send(receiver, push_of(EMPTY_PPROF))
    send(receiver, b"no protobuf")

    assert capfd.readouterr() == ("", "")


def test_messages_stay_out_of_the_default_pool(receiver: Receiver) -> None:
    """Decoding adds nothing to the descriptor pool that the host's own messages live in."""
    send(receiver, push_of(EMPTY_PPROF))

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("Push")


def test_hottest_counts_self_time_of_one_sample_type() -> None:
    """Shares are of the leaves' values over all profiles that have the sample type, largest first."""
    cpu = Profile({}, (CPU,), 10**7, (Sample(("a", "c"), (30,), {}), Sample(("b", "c"), (50,), {})), {})
    memory = Profile({}, ("alloc_space/bytes",), 0, (Sample(("m",), (7,), {}),), {})
    more = Profile({}, (CPU,), 10**7, (Sample(("a",), (10,), {}), Sample((), (10,), {})), {})

    assert hottest([cpu, memory, more], 2) == [("b", 0.5), ("a", 0.4)]
    assert hottest([cpu, memory], 2, "alloc_space/bytes") == [("m", 1.0)]
    assert hottest([memory], 2) == []
