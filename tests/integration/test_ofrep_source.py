"""Flags by OpenFeature's Remote Evaluation Protocol, from a server that speaks it on loopback."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rheostat.plugins import Duration, Identity, Reading, SourceUnavailable, Url
from rheostat.testing import FlagSourceContract
from rheostat_flagsources.http.ofrep import OfrepOptions, OfrepSource
from support.vendors.http_document import DocumentServer, Handler

PATH = "/ofrep/v1/evaluate/flags"


class OfrepServer(DocumentServer):
    """Evaluates whatever it is told to, for anybody."""

    @property
    def base(self) -> str:
        return self.url.removesuffix("/flags")

    def evaluate(self, flags: Mapping[str, object]) -> None:
        evaluated = [{"key": key, "value": value, "reason": "STATIC", "variant": "v"} for key, value in flags.items()]
        self.say({"flags": evaluated})


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestOfrep(FlagSourceContract):
    """The contract of any source, with a server that takes requests, and is silent."""

    @pytest.fixture(autouse=True)
    def serving(self) -> Iterator[None]:
        with OfrepServer() as self.server:
            yield

    def section(self) -> str:
        return f"{{kind: ofrep, url: '{self.server.base}', poll_interval: 20ms, timeout: 500ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.server.evaluate(flags)

    def break_down(self) -> None:
        self.server.misbehave(self.server.hang)

    def mend(self) -> None:
        self.server.mend()


@pytest.fixture
def server() -> Iterator[OfrepServer]:
    with OfrepServer() as opened:
        yield opened


def source(server: OfrepServer, **options: Any) -> OfrepSource:
    made = OfrepOptions(url=Url(server.base), timeout=Duration(0.5), **options)
    return OfrepSource(made, Identity("shop", "host-1", {"role": "api"}, 1))


def test_one_request_evaluates_all_flags_for_this_process(server: OfrepServer) -> None:
    """By the protocol's path, with the context; what has not changed is not evaluated again."""
    server.evaluate({"on": True, "rate": 97, "mode": "gil"})
    asking = source(server, attributes={"region": "eu"})
    first = asking.ask()
    assert ({"on": True, "rate": 97, "mode": "gil"}, "STATIC (v)") == (first.values, first.reasons["on"])
    assert first is asking.ask()
    (path, headers), (_, again) = server.asked
    assert PATH == path
    assert "application/json" == headers["Content-Type"]
    assert again["If-None-Match"]
    assert {"targetingKey": "host-1", "application": "shop", "role": "api", "region": "eu"}.items() <= json.loads(
        server.bodies[0]
    )["context"].items()


def test_a_flag_that_cannot_be_evaluated_harms_no_other(server: OfrepServer) -> None:
    """Its error is its own; one that the server does not have is not defined."""
    server.say(
        {
            "flags": [
                {"key": "on", "value": True, "reason": "TARGETING_MATCH"},
                {"key": "rate", "errorCode": "TYPE_MISMATCH", "errorDetails": "it is a text"},
                {"key": "mode", "errorCode": "FLAG_NOT_FOUND"},
                {"key": "list", "value": [1]},
                {"value": 5},
                "nonsense",
            ]
        }
    )
    reading = source(server).ask()
    assert {"on": True} == reading.values
    assert {"rate": "it is a text", "list": "found a list or a mapping, expected a plain value"} == reading.errors


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"flags": {}}', b"<html>", b"[" * 60_000])
def test_what_is_no_answer_of_the_protocol_is_said(server: OfrepServer, body: bytes) -> None:
    server.misbehave(lambda handler: handler.give(200, body))
    with pytest.raises(SourceUnavailable) as caught:
        source(server).ask()
    assert "found no answer of the protocol" in caught.value.reason


def test_a_server_that_wants_to_be_left_alone_is(server: OfrepServer) -> None:
    """For as long as it says, ten minutes at most."""
    for said, least, most in (("30", 29, 31), ("9999999", 590, 601), ("soon", 0, 11)):

        def answer(handler: Handler, said: str = said) -> None:
            handler.give(429, Retry_After=said)

        server.misbehave(answer)
        with pytest.raises(SourceUnavailable, match="HTTP 429") as caught:
            source(server).ask()
        assert caught.value.retry_at is not None
        assert least <= caught.value.retry_at - time.monotonic() <= most


def test_no_reading_is_lost_to_an_answer_that_cannot_be_used(server: OfrepServer) -> None:
    """The next good one has it, in full: of what could not be used no version is known."""
    server.evaluate({"rate": 1})
    asking = source(server)
    asking.ask()
    server.misbehave(lambda handler: handler.give(200, b"nonsense", ETag='"broken"'))
    with pytest.raises(SourceUnavailable):
        asking.ask()
    server.mend()
    server.evaluate({"rate": 2})
    assert isinstance(found := asking.ask(), Reading)
    assert {"rate": 2} == found.values
