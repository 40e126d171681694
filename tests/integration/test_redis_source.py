"""Flags from Redis, from a real server on loopback."""

import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import redis

from rheostat.plugins import (
    Duration,
    FilePath,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    Url,
)
from rheostat.testing import FlagSourceContract
from rheostat_flagsources.redis.source import RedisOptions, RedisSource
from support.children import RHEOSTAT, Child, ended, parsed
from support.pages import DOCS, command, log_lines, unpack
from support.vendors.redis import (
    NOTICES,
    PATIENCE,
    RedisServer,
    Wire,
    certificates,
    cut,
    drip,
    flood,
    hang,
    refuses,
    reset,
    says,
    until,
)

IDENTITY = Identity("shop", "host-1", {}, 1)
NEVER = Duration(3600.0)
"""An interval at which a test sees no poll."""
PAGE = DOCS / "sources/redis.md"


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    """One server for all tests that leave it as it was."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.client.flushall()
    running.client.config_resetstat()
    return running


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that the test may change."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def wire(server: RedisServer) -> Iterator[Wire]:
    with Wire(server) as wire:
        yield wire


class TestKeys(FlagSourceContract):
    """The contract of any source, with keys and their notices, and a server that is down in the worst way: it is
    stopped, and the kernel goes on taking its connections."""

    says: ClassVar[tuple[type, ...]] = (str,)

    @pytest.fixture(autouse=True)
    def serving(self, server: RedisServer) -> Iterator[None]:
        self.server = server
        yield
        server.thaw()

    def section(self) -> str:
        return f"{{kind: redis, url: '{self.server.url}', prefix: 'flags:', poll_interval: 200ms, timeout: 300ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.server.say(flags)

    def break_down(self) -> None:
        self.server.freeze()

    def mend(self) -> None:
        self.server.thaw()


class TestHash(FlagSourceContract):
    """The contract, with a hash that is polled, and a server that is gone and comes back with nothing in it."""

    says: ClassVar[tuple[type, ...]] = (str,)

    @pytest.fixture(autouse=True)
    def serving(self, server: RedisServer) -> Iterator[None]:
        self.server = server
        yield
        server.start()

    def section(self) -> str:
        return f"{{kind: redis, url: '{self.server.url}', hash: checkout, streaming: false, poll_interval: 20ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.said = flags
        self.server.say(flags, key="checkout")

    def break_down(self) -> None:
        self.server.stop()

    def mend(self) -> None:
        self.server.start()
        self.say(self.said)


class Watched:
    """An open source, and a way to wait for what it says."""

    def __init__(self, url: str, *flags: str, **options: Any) -> None:
        given = {"poll_interval": Duration(0.05), "timeout": Duration(0.2), **options}
        if "hash" not in given:
            given.setdefault("prefix", "flags:")
        self.source = RedisSource(RedisOptions(url=Url(url), **given), IDENTITY)
        self.flags = dict.fromkeys(flags or ("on", "rate"), object)
        self.readings: list[Reading] = []
        self.reasons: list[str] = []
        self._called = threading.Event()

    def __enter__(self) -> Self:
        self.source.open(self._called.set)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def reading(self, holds: Callable[[Reading], object]) -> Reading:
        """The first for which this holds."""
        return self._until(lambda: bool(self.readings) and holds(self.readings[-1]) and self.readings[-1])

    def values(self, **flags: str) -> Reading:
        """The reading in which just these flags are defined."""
        return self.reading(lambda reading: reading.values == flags)

    def reason(self, *words: str) -> str:
        """The first reason that has these words in it, or others."""
        return self._until(
            lambda: any(each in reason for reason in self.reasons[-1:] for each in words) and self.reasons[-1]
        )

    def is_called(self, within: float) -> bool:
        """Whether there is more than it has told, within so many seconds."""
        self._called.clear()
        self.look()
        return self._called.wait(within)

    def look(self) -> None:
        try:
            self.readings.append(self.source.read(self.flags))
            self.reasons.append("")
        except NotReady:
            pass
        except SourceUnavailable as unavailable:
            self.reasons.append(unavailable.reason)

    def _until(self, found: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            self._called.clear()
            self.look()
            if said := found():
                return said
            assert time.monotonic() < deadline, (self.readings[-1:], self.reasons[-3:])
            self._called.wait(0.05)


# Outages


@contextmanager
def broken(server: RedisServer, *commands: tuple[str, ...], mend: tuple[str, ...]) -> Iterator[None]:
    """While the server is set up like this."""
    for each in commands:
        server.client.execute_command(*each)
    server.drop_guests()
    yield
    server.client.execute_command(*mend)


@contextmanager
def refused(server: RedisServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    server.freeze()
    yield
    server.thaw()


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    server.client.config_set("maxclients", 1)
    server.drop_guests()
    yield
    server.client.config_set("maxclients", 100)


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """A script that has no end, for longer than the server lets it be alone."""
    server.client.config_set("lua-time-limit", 10)
    script = threading.Thread(target=_loop, args=(server,), daemon=True)
    script.start()
    until(lambda: _is_busy(server))
    yield
    server.client.execute_command("SCRIPT", "KILL")
    script.join(PATIENCE)


def _loop(server: RedisServer) -> None:
    with server.another_client() as client, pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def _is_busy(server: RedisServer) -> bool:
    try:
        server.client.get("flags:on")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


FAULTS_OF_SERVERS: dict[str, tuple[Callable[[RedisServer], Any], str]] = {
    "refused": (refused, "Connection refused"),
    "frozen": (frozen, "no whole answer in time, timeout is 0.2 s"),
    "full": (full, "the server has as many clients as it may have"),
    "busy": (busy, "it is busy with a script (BUSY)"),
    "locked": (
        lambda server: broken(
            server,
            ("ACL", "SETUSER", "default", "resetpass", ">secret"),
            mend=("ACL", "SETUSER", "default", "nopass"),
        ),
        "the server refuses the user: it wants a password, set password",
    ),
    "forbidden": (
        lambda server: broken(
            server, ("ACL", "SETUSER", "default", "resetkeys"), mend=("ACL", "SETUSER", "default", "~*")
        ),
        "not permitted: the user's ACL has to allow it (NOPERM)",
    ),
    "orphaned": (
        lambda server: broken(
            server,
            ("CONFIG", "SET", "replica-serve-stale-data", "no"),
            ("REPLICAOF", "127.0.0.1", "1"),
            mend=("REPLICAOF", "NO", "ONE"),
        ),
        "it is a replica that has lost its master (MASTERDOWN)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS_OF_SERVERS)
def test_whatever_becomes_of_the_server_is_said_and_overcome(own: RedisServer, fault: str) -> None:
    """In words that are the same each time, with the address; until there is an answer no flag is made up."""
    breaking, expected = FAULTS_OF_SERVERS[fault]
    own.say({"on": "true", "rate": "97"})
    with Watched(own.url) as watched, Watched(own.url) as late:
        watched.values(on="true", rate="97")
        with breaking(own):
            said = watched.reason(expected)
            late.reason(expected)
        assert f"{own.url}: {expected}" == said
        own.say({"on": "true", "rate": "98"})
        watched.values(on="true", rate="98")
        late.values(on="true", rate="98")
    told = [reading.values for reading in watched.readings + late.readings]
    # A server that was started anew has nothing at first.
    assert all(each in ({"on": "true", "rate": "97"}, {"on": "true", "rate": "98"}, {}) for each in told)
    assert {} not in told or fault == "refused"


FAULTS_OF_WIRES = {
    "hang": (hang, "no whole answer in time, timeout is 0.2 s"),
    "drip": (drip, "no whole answer in time, timeout is 0.2 s"),
    "flood": (flood, "found an answer of more than 64 KiB, expected flags only"),
    "cut": (cut, "the server closed the connection"),
    "reset": (reset, "Connection reset by peer"),
    "http": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "found no answer of Redis's protocol: is url right?"),
    "bytes": (says(b"\xff\xfe\x00\r\n"), "found no answer of Redis's protocol: is url right?"),
    "digits": (says(b":" + b"9" * 60_000 + b"\r\n"), "found no answer of Redis's protocol: is url right?"),
    "nested": (says(b"*1\r\n" * 12_000), "found no answer of Redis's protocol: is url right?"),
    "endless": (says(b"*1000000000\r\n", b":1\r\n" * 100), "no whole answer in time, timeout is 0.2 s"),
    "other": (says(b"+OK\r\n" * 100), "found no answer of Redis's protocol: is url right?"),
    "moved": (refuses("MOVED 7 10.0.0.1:6379"), "it is a node of a cluster, which is not supported (MOVED)"),
    "loading": (refuses("LOADING Redis is loading the dataset in memory"), "it is still loading its data (LOADING)"),
    "error": (refuses("WAIT a while, s3cr3t"), "it answers with an error (WAIT)"),
    "small": (refuses("unknown command 'AUTH', with args: 's3cr3t'"), "it answers with an error (ERR)"),
}


@pytest.mark.parametrize("fault", FAULTS_OF_WIRES)
def test_whatever_answers_is_said_and_overcome(server: RedisServer, wire: Wire, fault: str) -> None:
    """In words that are the same each time, with the address and without what the other end has said."""
    misbehaviour, expected = FAULTS_OF_WIRES[fault]
    server.say({"on": "true", "rate": "97"})
    with Watched(wire.url) as watched, Watched(wire.url) as late:
        watched.values(on="true", rate="97")
        wire.misbehave(misbehaviour)
        said = watched.reason(expected)
        late.reason(expected)
        assert f"{wire.url}: {expected}" == said
        wire.mend()
        server.say({"on": "true", "rate": "98"})
        watched.values(on="true", rate="98")
        late.values(on="true", rate="98")
    values = [reading.values for reading in watched.readings + late.readings]
    assert all(each in ({"on": "true", "rate": "97"}, {"on": "true", "rate": "98"}) for each in values)


def test_a_server_that_is_gone_is_asked_less_and_less_often(own: RedisServer) -> None:
    """Each time it is said when the next is."""
    with Watched(own.url, poll_interval=Duration(0.05)) as watched:
        watched.values()
        own.stop()
        watched.reason("refused")
        pauses: list[float] = []

        def pause() -> float:
            with pytest.raises(SourceUnavailable) as caught:
                watched.source.read(watched.flags)
            assert caught.value.retry_at is not None
            return caught.value.retry_at - time.monotonic()

        until(lambda: pauses.append(pause()) or max(pauses) > 0.4)
        assert min(pauses) < 0.1
        own.start()
        watched.reading(lambda _: watched.reasons[-1] == "")
        own.stop()
        watched.reason("refused")
        assert pause() < 0.1


def test_a_connection_that_was_dropped_is_no_outage(own: RedisServer) -> None:
    """An idle one may be the server's to close: there is another at once, of both."""
    own.say({"on": "true"})
    with Watched(own.url) as watched:
        watched.values(on="true")
        for _ in range(3):
            before = {each["id"] for each in own.guests()}
            own.drop_guests()
            until(lambda before=before: len({each["id"] for each in own.guests()} - before) == 2)
            watched.look()
        own.say({"on": "false"})
        watched.values(on="false")
    assert {""} == set(watched.reasons)


def test_a_server_that_comes_back_empty_defines_nothing(own: RedisServer) -> None:
    """As it would tell anybody."""
    own.say({"on": "true"})
    with Watched(own.url) as watched:
        watched.values(on="true")
        with refused(own):
            watched.reason("refused")
        watched.values()


# What is wrong with one flag


def test_a_flag_that_cannot_be_used_harms_no_other(server: RedisServer) -> None:
    """Each has its own error; what is too large is not even fetched."""
    server.say({"on": "true", "list": [1], "mapping": {"a": 1}, "empty": "", "large": "x" * 5000, "text": "ü" * 2000})
    server.client.set("flags:bytes", b"\xff\xfe")
    wanted = ("on", "list", "mapping", "empty", "large", "text", "bytes", "none")
    with Watched(server.url, *wanted) as watched:
        reading = watched.reading(lambda reading: reading.values)
    assert {"on": "true", "empty": "", "text": "ü" * 2000} == reading.values
    assert {
        "list": "found another type than a string",
        "mapping": "found another type than a string",
        "large": "found more than 4 KiB, expected a plain value",
        "bytes": "found bytes that are no UTF-8",
    } == reading.errors
    assert {flag: f"GET flags:{flag}" for flag in wanted} == reading.reasons
    server.client.config_resetstat()
    with Watched(server.url, "large") as watched:
        watched.reading(lambda reading: reading.errors)
    assert (0, 1) == (server.calls("get"), server.calls("strlen"))


def test_a_key_that_is_not_permitted_harms_no_other(own: RedisServer) -> None:
    own.say({"on": "true", "rate": "97"})
    own.client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~flags:on")
    with Watched(own.url) as watched:
        reading = watched.reading(lambda reading: reading.values)
    assert ({"on": "true"}, {"rate": "not permitted: the user's ACL has to allow it (NOPERM)"}) == (
        reading.values,
        reading.errors,
    )


def test_a_key_that_is_no_hash_is_an_outage(server: RedisServer) -> None:
    """Of all flags at once, until it is one again."""
    server.client.hset("checkout", mapping={"on": "true", "large": "x" * 5000})
    with Watched(server.url, "on", "large", hash="checkout") as watched:
        reading = watched.values(on="true")
        assert "HGET checkout on" == reading.reasons["on"]
        assert {"large": "found more than 4 KiB, expected a plain value"} == reading.errors
        server.client.set("checkout", "on=true")
        watched.reason("the key checkout is no hash")
        server.say({"on": "false"}, key="checkout")
        watched.values(on="false")


# Changes


@pytest.mark.parametrize("database", [0, 3])
def test_each_way_to_change_a_key_is_heard_of(server: RedisServer, database: int) -> None:
    """Without a poll: it is set, deleted, renamed, or runs out."""
    client = server.client
    with Watched(f"{server.url}/{database}", poll_interval=NEVER) as watched:
        watched.values()
        client.select(database)
        try:
            client.set("flags:on", "true")
            watched.values(on="true")
            client.mset({"flags:on": "false", "flags:rate": "97"})
            watched.values(on="false", rate="97")
            client.delete("flags:rate")
            watched.values(on="false")
            client.rename("flags:on", "flags:rate")
            watched.values(rate="false")
            client.pexpire("flags:rate", 20)
            watched.values()
        finally:
            client.select(0)


def test_each_way_to_change_a_hash_is_heard_of(server: RedisServer) -> None:
    client = server.client
    with Watched(server.url, hash="checkout", poll_interval=NEVER) as watched:
        watched.values()
        client.hset("checkout", "on", "true")
        watched.values(on="true")
        client.hincrby("checkout", "rate", 97)
        watched.values(on="true", rate="97")
        client.hdel("checkout", "on")
        watched.values(rate="97")
        client.delete("checkout")
        watched.values()


def test_a_channel_says_when_to_look(own: RedisServer) -> None:
    """Whatever is published on it; the server's own notices are then not asked for."""
    own.client.config_set("notify-keyspace-events", "")
    with Watched(own.url, channel="flags", poll_interval=NEVER) as watched:
        watched.values()
        assert [(b"flags", 1)] == own.client.pubsub_numsub("flags")
        for number in range(3):
            own.say({"rate": str(number)})
            own.client.publish("flags", b"\xff\x00 look again")
            assert watched.values(rate=str(number)).reasons["rate"] == "GET flags:rate"


def test_without_notices_changes_are_found_by_polling(own: RedisServer) -> None:
    """That none came is said with each flag, until one does."""
    own.client.config_set("notify-keyspace-events", "")
    with Watched(own.url) as watched:
        watched.values()
        own.say({"on": "true"})
        watched.reading(
            lambda reading: "GET flags:on; polled, as nothing told of the last change" == reading.reasons["on"]
        )
        assert {"on": "true"} == watched.readings[-1].values
        own.client.config_set("notify-keyspace-events", NOTICES)
        own.say({"on": "false"})
        watched.reading(lambda reading: "GET flags:on" == reading.reasons["on"])
        assert {"on": "false"} == watched.readings[-1].values


def test_a_user_who_may_not_subscribe_gets_the_flags(own: RedisServer) -> None:
    """By polling, which is said with each flag. The name of the connection is not vital either."""
    rules = ("reset", "on", "nopass", "+strlen", "+get", "+ping", "~flags:*")
    own.client.execute_command("ACL", "SETUSER", "default", *rules)
    own.say({"on": "true"})
    with Watched(own.url) as watched:
        reading = watched.values(on="true")
        expected = "GET flags:on; polled, as SUBSCRIBE: not permitted: the user's ACL has to allow it (NOPERM)"
        assert expected == reading.reasons["on"]
        own.say({"on": "false"})
        watched.values(on="false")
    assert {""} == set(watched.reasons)


def test_the_page_says_what_the_user_has_to_be_permitted(own: RedisServer) -> None:
    """No more, for keys as for a hash, with notices and a channel, `plan` included."""
    own.client.execute_command(*words_of("redis-cli ACL SETUSER rheostat"))
    own.say({"on": "true"})
    own.say({"on": "true"}, key="flags:checkout")
    login: dict[str, Any] = {"username": "rheostat", "password": Secret("PASSWORD"), "poll_interval": NEVER}
    by_channel = {"hash": "flags:checkout", "channel": "flags:checkout:changed"}
    for options in ({"prefix": "flags:"}, {"hash": "flags:checkout"}, by_channel):
        with Watched(own.url, "on", **options, **login) as watched:
            assert "polled" not in watched.values(on="true").reasons["on"]
            assert "on" in watched.source.known_flags()
    assert [] == own.client.acl_log()


def test_a_connection_that_hears_nothing_any_more_is_replaced(server: RedisServer, wire: Wire) -> None:
    """While flags are read as ever, so that it is no outage."""
    with Watched(wire.url) as watched:
        watched.values()
        wire.misbehave(hang, only=lambda data: b"PING" in data)
        watched.reading(lambda reading: "; polled, as no whole answer in time" in reading.reasons["on"])
        server.say({"on": "true"})
        watched.values(on="true")
        wire.mend()
        watched.reading(lambda reading: "GET flags:on" == reading.reasons["on"])
        server.say({"on": "false"})
        watched.values(on="false")
    assert {""} == set(watched.reasons)


def test_a_storm_of_notices_is_not_followed(server: RedisServer) -> None:
    """It would be more work than polling; a burst is one look or two."""
    with Watched(server.url, channel="flags", poll_interval=Duration(1.0)) as watched:
        watched.values()
        server.client.config_resetstat()
        for _ in range(200):
            server.client.publish("flags", "")
        server.say({"on": "true"})
        server.client.publish("flags", "")
        watched.values(on="true")
        assert server.calls("strlen") <= 2 * 10
        storm = server.client.pipeline(transaction=False)
        for _ in range(3000):
            storm.publish("flags", "")
        storm.execute()
        watched.reading(lambda reading: "more than 1000 notices between two polls" in reading.reasons["on"])
        server.say({"on": "false"})
        watched.values(on="false")
        watched.reading(lambda reading: "GET flags:on" == reading.reasons["on"])
    assert {""} == set(watched.reasons)


def test_the_flags_that_there_are_begin_with_the_prefix(server: RedisServer) -> None:
    """And with nothing that is only like it."""
    server.say({"on": "true", "ü": "true"}, prefix="a*[b]\\?:")
    server.say({"off": "true"}, prefix="aa*[b]\\?:")
    with Watched(server.url, prefix="a*[b]\\?:") as watched:
        watched.values(on="true")
        assert {"on", "ü"} == set(watched.source.known_flags())


def test_flags_that_are_wanted_later_are_read_and_followed(server: RedisServer) -> None:
    """Until they have been they are not told to be undefined."""
    server.say({"on": "true", "mode": "wall"})
    with Watched(server.url, "on", poll_interval=NEVER) as watched:
        watched.values(on="true")
        known = len(watched.readings)
        watched.flags["mode"] = str
        reading = watched.reading(lambda reading: "mode" in reading.reasons)
        assert {"on": "true", "mode": "wall"} == reading.values
        assert all("mode" in each.reasons for each in watched.readings[known:])
        server.say({"on": "true", "mode": "cpu"})
        watched.values(on="true", mode="cpu")


def test_without_a_flag_the_server_is_asked_whether_it_answers(own: RedisServer) -> None:
    """There is nothing to follow then."""
    with Watched(own.url) as watched:
        watched.flags.clear()
        watched.values()
        assert 1 == len(own.guests())
        own.freeze()
        watched.reason("no whole answer in time")


# Connections


def test_operators_see_two_connections_by_name(server: RedisServer) -> None:
    """One without streaming, and none once the source is closed."""
    for options, count in (({}, 2), ({"streaming": False}, 1)):
        with Watched(server.url, **options) as watched:
            watched.values()
            assert ["rheostat"] * count == [each["name"] for each in server.guests()]
        until(lambda: not server.guests())


def test_a_unix_socket_has_no_port(server: RedisServer) -> None:
    server.client.select(2)
    try:
        server.say({"on": "true"})
    finally:
        server.client.select(0)
    with Watched(f"unix://{server.socket}?db=2") as watched:
        watched.values(on="true")
    with Watched(f"unix://{server.socket}.none") as watched:
        assert f"unix://{server.socket}.none: No such file or directory" == watched.reason("No such")


def test_a_database_that_is_not_there_is_told(server: RedisServer) -> None:
    with Watched(f"{server.url}/99") as watched:
        assert f"{server.url}/99: the server has no such database: is url right?" == watched.reason("database")


def test_who_connects_is_in_the_url_or_beside_it(own: RedisServer) -> None:
    """A wrong password is told without the right one or the wrong."""
    own.client.execute_command("ACL", "SETUSER", "shop", "on", ">p@ss:w0rd/ü", "~*", "&*", "+@all")
    own.say({"on": "true"})
    place = own.url.removeprefix("redis://")
    for url, options in (
        (f"redis://shop:p%40ss%3Aw0rd%2F%C3%BC@{place}", {}),
        (f"redis://shop@{place}", {"password": Secret("p@ss:w0rd/ü")}),
        (f"redis://{place}", {"username": "shop", "password": Secret("p@ss:w0rd/ü")}),
    ):
        with Watched(url, **options) as watched:
            watched.values(on="true")
            assert {"shop"} == {each["user"] for each in own.guests()}
    for url in (f"redis://shop:wr0ng-p%40ss@{place}", f"redis://:wr0ng-p%40ss@{place}"):
        own.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">right")
        with Watched(url) as watched:
            said = watched.reason("the server refuses the user: are username and password right?")
        assert f"redis://***@{place}: the server refuses the user: are username and password right?" == said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
def test_certificates_are_verified_and_may_be_ones_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In both directions; a key that needs a passphrase is told of, and nobody is asked for one."""
    cert, key = certificates(tmp_path)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    files = {"tls-cert-file": str(cert), "tls-key-file": str(key), "tls-ca-cert-file": str(cert)}
    own = {"ca_file": FilePath(str(cert)), "client_cert_file": FilePath(str(cert))}
    with RedisServer(options={**files, "tls-auth-clients": "yes"}, tls=True) as server:
        server.say({"on": "true"})
        assert server.url.startswith("rediss://")
        with Watched(server.url, **own, client_key_file=FilePath(str(key))) as watched:
            watched.values(on="true")
            server.say({"on": "false"})
            watched.values(on="false")
            server.freeze()
            watched.reason("no whole answer in time")
            server.thaw()
            watched.values(on="false")
        with Watched(server.url) as watched:
            watched.reason("its certificate is not trusted, self-signed certificate: is ca_file right?")
        with Watched(server.url, ca_file=own["ca_file"]) as watched:
            watched.reason("CERTIFICATE_REQUIRED", "closed the connection", "reset by peer")
        with Watched(server.url, **own, client_key_file=FilePath(str(locked))) as watched:
            watched.reason("cannot be used: [SSL] PEM lib; expected PEM, and a key that needs no passphrase")
        with Watched(server.url, ca_file=FilePath(str(tmp_path / "none.pem"))) as watched:
            watched.reason("the certificate files cannot be used: No such file or directory")
        with Watched(server.url.replace("rediss", "redis")) as watched:
            watched.reason("closed the connection", "Connection reset")
    assert ("", "") == capfd.readouterr()


def test_the_processor_is_left_alone_while_nothing_happens(server: RedisServer) -> None:
    """Between two polls the thread waits for the server, and for nothing else."""
    with Watched(server.url, poll_interval=NEVER) as watched:
        watched.values()
        (thread,) = [each for each in threading.enumerate() if each.name == "rheostat-redis"]
        assert thread.native_id is not None
        clock = ((~thread.native_id) << 3) | 6
        before = time.clock_gettime_ns(clock)
        server.client.config_resetstat()
        assert not watched.is_called(within=0.5)
        assert time.clock_gettime_ns(clock) - before < 1_000_000
        assert 0 == server.calls("ping") + server.calls("strlen")


# As a user has it

CONFIG = """\
version: 1
application: checkout
source: {{kind: redis, url: '{url}', prefix: 'flags:', password_file: password, poll_interval: {poll}, timeout: 300ms}}
backend: {{kind: noop}}
enabled: {{flag: profiling_enabled, default: false}}
settings:
  rate: {{flag: profiling_rate, default: 20, clamp: {{min: 1, max: 250}}}}
policy: {{start_after: 50ms, cooldown: 0s, hold_last_good: {lease}}}
"""


@pytest.fixture
def configured(own: RedisServer, tmp_path: Path) -> tuple[RedisServer, Path]:
    own.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">s3cr3t-password")
    (tmp_path / "password").write_text("s3cr3t-password\n")
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=own.url, poll="10s", lease="15m"))
    return own, tmp_path


def test_plan_and_check_ask_the_server(configured: tuple[RedisServer, Path]) -> None:
    """What a flag says, why, and which one is like one that is misspelt; or why there is no answer."""
    server, folder = configured
    server.say({"profiling_enabled": "true", "profiling_rat": "9999"})
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], folder)
    assert re.search(
        r"^enabled +profiling_enabled +true +true +GET flags:profiling_enabled$", planned.stdout, re.MULTILINE
    )
    assert "profiling_rat'" in planned.stdout.replace("?", "'")
    server.say({"profiling_enabled": "true", "profiling_rate": "9999"})
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], folder)
    assert re.search(r"^rate +profiling_rate +9999 +250 +max 250 \(clamp\) +GET", planned.stdout, re.MULTILINE)
    checked = ended([*RHEOSTAT, "check", "--online", "config.yaml"], folder)
    assert (0, "") == (checked.returncode, checked.stderr)
    server.stop()
    checked = ended([*RHEOSTAT, "check", "--online", "config.yaml"], folder)
    expected = f"the flag source does not answer: {server.url}: Connection refused"
    assert (1, True) == (checked.returncode, expected in checked.stdout)
    assert "s3cr3t" not in planned.stdout + checked.stdout + checked.stderr


def governed(folder: Path, program: str = "sys.stdin.read()") -> Child:
    run = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--"]
    return Child([*run, sys.executable, "-c", f"import sys, threading\n{program}"], folder)


def test_a_flip_starts_and_stops(configured: tuple[RedisServer, Path]) -> None:
    """In a process that runs; nothing of the client's is in its log."""
    server, folder = configured
    server.say({"profiling_enabled": "false"})
    with governed(folder) as child:
        until(lambda: server.guests())
        server.say({"profiling_enabled": "true", "profiling_rate": "97"})
        started = child.event("transition", to="running")
        assert {"rate": 97} == started["settings"]
        server.say({"profiling_enabled": "false"})
        child.event("transition", to="stopped")
        assert 0 == child.finish()
        assert {"transition", "closed"} >= {each["event"] for each in child.events()}


def test_an_outage_holds_until_the_lease_ends(configured: tuple[RedisServer, Path]) -> None:
    """Then it is off, and on again when the server is back and says so."""
    server, folder = configured
    (folder / "config.yaml").write_text(CONFIG.format(url=server.url, poll="100ms", lease="1s"))
    server.say({"profiling_enabled": "true"})
    with governed(folder) as child:
        child.event("transition", to="running")
        server.freeze()
        failed = child.event("source_unavailable")
        ended_by = child.event("transition", to="stopped")
        assert "lease" == ended_by["cause"]["kind"]
        assert "no whole answer in time" in failed["message"]
        server.thaw()
        child.event("source_recovered")
        child.event("transition", to="running")
        assert 0 == child.finish()


# What the page says


def words_of(line: str) -> list[str]:
    """The command that begins like this, without its program, and what stands behind it for people."""
    return shlex.split(command(PAGE, line).line, comments=True)[1:]


def test_the_page_plans_and_shows_what_is_true(own: RedisServer, tmp_path: Path) -> None:
    """Its plan, from what its commands have set; its log, and the name of its thread."""
    own.client.execute_command(*words_of("redis-cli MSET"))
    own.client.execute_command(*words_of("redis-cli CONFIG SET notify"))
    assert NOTICES == words_of("redis-cli CONFIG SET notify")[-1]
    unpack(PAGE, tmp_path, {"redis://localhost:6379/0": own.url, "prefix:": "poll_interval: 1s\n  prefix:"})
    block = command(PAGE, "rheostat plan")
    planned = ended(block.command, tmp_path)
    assert (block.output, "") == (planned.stdout, planned.stderr)
    config = (tmp_path / "config.yaml").read_text().replace("kind: pyroscope", "kind: noop")
    (tmp_path / "config.yaml").write_text(config + "policy: {start_after: 50ms, cooldown: 0s}\n")
    failed, recovered = (line.replace("redis://localhost:6379/0", own.url) for line in log_lines(PAGE))
    with governed(
        tmp_path, "for _ in sys.stdin: print(*(each.name for each in threading.enumerate()), flush=True)"
    ) as child:
        child.event("transition", to="running")
        child.tell("threads")
        assert "rheostat-redis" in (child.out.next() or "").split()
        own.stop()
        # A look that was in the midst of it may say something else first.
        message = parsed(child.err.until(lambda line: "refused" in line))["message"]
        assert failed == re.sub(r"in \d+ s$", "in 1 s", message)
        own.start()
        assert recovered == child.event("source_recovered")["message"]
        # It has nothing any more.
        child.event("transition", to="stopped")
        assert 0 == child.finish()


# Options


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        ({"url": Url("localhost:6379")}, "url"),
        ({"url": Url("http://localhost:6379")}, "url"),
        ({"url": Url("redis://localhost:6379/first")}, "url"),
        ({"url": Url("redis://localhost:6379/0?socket_timeout=1")}, "url"),
        ({"url": Url("unix://redis.sock")}, "url"),
        ({"prefix": None}, "hash"),
        ({"hash": "checkout"}, "hash"),
        ({"hash": "", "prefix": None}, "hash"),
        ({"channel": ""}, "channel"),
        ({"channel": "flags", "streaming": False}, "channel"),
        ({"url": Url("redis://me@localhost"), "username": "me"}, "username"),
        ({"url": Url("redis://:pw@localhost"), "password": Secret("pw")}, "password"),
        ({"poll_interval": Duration(0.0)}, "poll_interval"),
        ({"timeout": Duration(0.0)}, "timeout"),
        ({"ca_file": FilePath("ca.pem")}, "ca_file"),
        ({"url": Url("rediss://localhost"), "client_key_file": FilePath("k")}, "client_key_file"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], blamed: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        RedisOptions(**{"url": Url("redis://localhost"), "prefix": "flags:", **options})
    assert {blamed} == caught.value.expected.keys()
