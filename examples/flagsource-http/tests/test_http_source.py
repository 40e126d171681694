"""The source as Rheostat uses it, and what it asks the endpoint and says of it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import pytest
from endpoint import Endpoint, Handler
from rheostat_flagsource_http.document import flags_in
from rheostat_flagsource_http.endpoint import LARGEST
from rheostat_flagsource_http.source import HttpOptions, HttpSource
from rheostat_flagsource_http.trouble import Trouble

from rheostat.plugins import Duration, Identity, InvalidOptions, Reading, Secret, SourceUnavailable, Url
from rheostat.testing import FlagSourceContract

PATIENCE = 10.0
TOKEN = "s3cr3t"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints on loopback are asked without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestHttp(FlagSourceContract):
    """The contract of any source, with an endpoint that is down in the worst way: it takes requests, and is silent."""

    @pytest.fixture(autouse=True)
    def serving(self) -> Iterator[None]:
        with Endpoint() as self.endpoint:
            yield

    def section(self) -> str:
        return f"{{kind: httpjson, url: '{self.endpoint.url}', poll_interval: 20ms, timeout: 500ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.endpoint.say(flags)

    def break_down(self) -> None:
        self.endpoint.misbehave(self.endpoint.hang)

    def mend(self) -> None:
        self.endpoint.mend()


class Watched:
    """An open source, and a way to wait for what it says."""

    def __init__(self, url: str, **options: object) -> None:
        identity = Identity(application="checkout", instance="host-1", tags={}, pid=1)
        given = HttpOptions(url=Url(url), **{"poll_interval": Duration(0.02), **options})  # type: ignore[arg-type]
        self.source = HttpSource(given, identity)
        self.called = threading.Event()

    def __enter__(self) -> Self:
        self.source.open(self.called.set)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def next(self) -> Reading | str:
        """Its word when it has called; a trouble is a text."""
        assert self.called.wait(PATIENCE), "it does not call"
        self.called.clear()
        return self.now()

    def now(self) -> Reading | str:
        try:
            return self.source.read({})
        except SourceUnavailable as unavailable:
            return unavailable.reason


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        endpoint.say({"profiling_enabled": True})
        yield endpoint


class Asked:
    """Waits for requests: calls `answer` for each, and rings after so many."""

    def __init__(self, endpoint: Endpoint, answer: Callable[[Handler], None], count: int) -> None:
        self._left = count
        self._answer = answer
        self._rung = threading.Event()
        endpoint.misbehave(self._count)

    def wait(self) -> None:
        assert self._rung.wait(PATIENCE), "it does not ask"

    def _count(self, handler: Handler) -> None:
        self._left -= 1
        self._answer(handler)
        if self._left <= 0:
            self._rung.set()


def test_a_version_that_is_known_is_not_sent_again(endpoint: Endpoint) -> None:
    """After the first answer each request has its tag, and after a 304 the reading is the same object."""
    with Watched(endpoint.url) as watched:
        known = watched.next()
        Asked(endpoint, endpoint.answer, 3).wait()
        assert watched.now() is known
    first, *later = [headers["If-None-Match"] for headers in endpoint.asked]
    assert first is None
    assert {type(tag) for tag in later} == {str}
    assert len(set(later)) == 1


def test_what_cannot_be_used_leaves_the_tag_as_it_is(endpoint: Endpoint) -> None:
    """An answer that is no object does not count as a version, so that a 304 brings back the flags from before."""
    with Watched(endpoint.url) as watched:
        known = watched.next()
        endpoint.misbehave(lambda handler: handler.give(200, b"[]", ETag='"broken"'))
        assert "found a list, expected an object" in str(watched.next())
        endpoint.mend()
        assert watched.next() is known
    assert '"broken"' not in [headers["If-None-Match"] for headers in endpoint.asked]


def test_without_tags_the_same_flags_are_the_same_reading(endpoint: Endpoint) -> None:
    """An endpoint that knows no ETag is asked in full, and what it repeats is no news."""
    endpoint.misbehave(lambda handler: handler.give(200, b'{"profiling_enabled": true}'))
    with Watched(endpoint.url) as watched:
        known = watched.next()
        Asked(endpoint, endpoint.answer, 3).wait()
        assert watched.now() is known
    assert {headers["If-None-Match"] for headers in endpoint.asked} == {None}


def test_a_version_without_a_tag_is_asked_for_in_full(endpoint: Endpoint) -> None:
    """Once the flags come without a tag, the tag of older ones is sent no more."""
    with Watched(endpoint.url) as watched:
        watched.next()
        endpoint.misbehave(lambda handler: handler.give(200, b"{}"))
        assert watched.next() == Reading({})
        endpoint.asked.clear()
        Asked(endpoint, endpoint.answer, 2).wait()
    assert endpoint.asked[-1]["If-None-Match"] is None


def test_an_unasked_304_is_told(endpoint: Endpoint) -> None:
    """Not modified, said to one who knows nothing, is no answer."""
    endpoint.misbehave(lambda handler: handler.give(304))
    with Watched(endpoint.url) as watched:
        assert watched.next() == f"{endpoint.url}: HTTP 304"


def test_the_token_is_sent(endpoint: Endpoint) -> None:
    """Each request has it as a bearer token."""
    with Watched(endpoint.url, token=Secret(TOKEN)) as watched:
        watched.next()
    assert {headers["Authorization"] for headers in endpoint.asked} == {f"Bearer {TOKEN}"}


def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    """The token goes nowhere else, and the reason says what to do."""
    with Endpoint() as elsewhere:
        endpoint.misbehave(lambda handler: handler.give(302, Location=elsewhere.url))
        with Watched(endpoint.url, token=Secret(TOKEN)) as watched:
            assert watched.next() == f"{endpoint.url}: HTTP 302: the flags are elsewhere, set url"
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda handler: handler.give(401), "HTTP 401: is token right?"),
        (lambda handler: handler.give(200, b"<html>"), "found no JSON, expected an object of flags"),
        (lambda handler: handler.give(200, b"[" * 10_000), "found no JSON, expected an object of flags"),
        (lambda handler: handler.give(200, b"null"), "found nothing, expected an object"),
        (lambda handler: handler.connection.close(), "the connection broke (ProtocolError)"),
        (
            lambda handler: handler.give(200, b" " * LARGEST + b"{}"),
            "found an answer of more than 65536 bytes, expected flags only",
        ),
    ],
    ids=["refused", "HTML", "deep", "null", "broken", "large"],
)
def test_troubles_are_told_without_the_token(endpoint: Endpoint, answer: Callable[[Handler], None], told: str) -> None:
    """Each has its line, which has the address and never the token, though the endpoint knows both."""
    endpoint.misbehave(answer)
    with Watched(endpoint.url, token=Secret(TOKEN)) as watched:
        assert watched.next() == f"{endpoint.url}: {told}"


@pytest.mark.parametrize("answer", [Endpoint.hang, Endpoint.drip])
def test_an_answer_that_takes_too_long_is_told(endpoint: Endpoint, answer: Callable[[Endpoint, Handler], None]) -> None:
    """Be it that nothing comes, or that it comes bit by bit without an end."""
    endpoint.misbehave(lambda handler: answer(endpoint, handler))
    with Watched(endpoint.url, timeout=Duration(0.2)) as watched:
        assert watched.next() == f"{endpoint.url}: no whole answer in time, timeout is 0.2 s"


def test_a_request_without_an_end_is_told(endpoint: Endpoint) -> None:
    """A request that the client's timeouts do not end is noticed by the next read, once a poll interval."""
    endpoint.misbehave(endpoint.drip_headers)
    deadline = time.monotonic() + PATIENCE
    with Watched(endpoint.url, timeout=Duration(0.1)) as watched:
        assert watched.source.poll_interval == 0.02
        while (said := watched.now()) == f"{endpoint.url}: no answer yet":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert said == f"{endpoint.url}: no answer within 0.4 s"


def test_close_waits_for_no_answer(endpoint: Endpoint) -> None:
    """However long the timeout is, a request that hangs is left to itself, and what becomes of it is no news."""
    asked = threading.Event()

    def hang(handler: Handler) -> None:
        asked.set()
        endpoint.hang(handler)

    endpoint.misbehave(hang)
    with Watched(endpoint.url, timeout=Duration(60.0)) as watched:
        assert asked.wait(PATIENCE), "it does not ask"
        began = time.monotonic()
        watched.source.close()
        assert time.monotonic() - began < PATIENCE
        endpoint.mend()
        for thread in threading.enumerate():
            if thread.name == "rheostat-http":
                thread.join(PATIENCE)
                assert not thread.is_alive()
        assert not watched.called.is_set()


def test_an_answer_may_be_as_large_as_that(endpoint: Endpoint) -> None:
    """Up to the limit flags are flags."""
    endpoint.misbehave(lambda handler: handler.give(200, b"{}".rjust(LARGEST)))
    with Watched(endpoint.url) as watched:
        assert watched.next() == Reading({})


def test_nobody_there_is_told_in_the_systems_words() -> None:
    """A refused connection has one steady line, without addresses of objects."""
    with Endpoint() as gone:
        url = gone.url
    with Watched(url) as watched:
        assert watched.next() == f"{url}: Connection refused"


def test_the_environments_proxy_is_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is not excepted is asked of the proxy."""
    monkeypatch.setenv("http_proxy", endpoint.url)
    with Watched("http://flags.invalid/") as watched:
        assert watched.next() == Reading({"profiling_enabled": True}, {"profiling_enabled": "HTTP"})


def test_it_says_when_it_asks_again(endpoint: Endpoint) -> None:
    """An outage has the time of the next request."""
    endpoint.misbehave(lambda handler: handler.give(503))
    with Watched(endpoint.url, poll_interval=Duration(60.0)) as watched:
        watched.next()
        with pytest.raises(SourceUnavailable) as unavailable:
            watched.source.read({})
    assert unavailable.value.retry_at is not None


@pytest.mark.parametrize(
    ("pointer", "flags"),
    [("", {"data": {"a/b": {"on": True}}}), ("/data", {"a/b": {"on": True}}), ("/data/a~1b", {"on": True})],
)
def test_flags_may_be_further_down(pointer: str, flags: Mapping[str, object]) -> None:
    """A JSON pointer leads to the object that has them."""
    assert flags_in(b'{"data": {"a/b": {"on": true}}}', pointer) == flags


@pytest.mark.parametrize(
    ("pointer", "told"),
    [
        ("/data/on", "found true or false at /data/on, expected an object"),
        ("/data/off", "found nothing at /data/off, expected an object"),
        ("/data/on/more", "found true or false at /data/on, expected an object"),
        ("/list/0", "found a list at /list, expected an object"),
    ],
)
def test_a_pointer_that_leads_nowhere_is_told(pointer: str, told: str) -> None:
    """With the place, what is there, and what was expected."""
    with pytest.raises(Trouble) as trouble:
        flags_in(b'{"data": {"on": true}, "list": [{}]}', pointer)
    assert str(trouble.value) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", Url("flags.example.com")),
        ("url", Url("ftp://flags.example.com/")),
        ("url", Url("http://user:pass@flags.example.com/")),
        ("url", Url("http://flags.example.com:port/")),
        ("token", Secret(f"{TOKEN}\n")),
        ("token", Secret("")),
        ("pointer", "data.flags"),
        ("poll_interval", Duration(0.0)),
        ("timeout", Duration(0.0)),
    ],
)
def test_options_that_cannot_work_are_refused(name: str, value: object) -> None:
    """The error names the option, and shows no secret."""
    with pytest.raises(InvalidOptions) as invalid:
        HttpOptions(**{"url": Url("http://flags.example.com/"), name: value})  # type: ignore[arg-type]
    assert list(invalid.value.expected) == [name]
    assert TOKEN not in str(invalid.value)
