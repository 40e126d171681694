"""Flags from Unleash: a server that speaks its client API on loopback, its own engine, and its own SDK beside it."""

import gzip
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest
from UnleashClient import UnleashClient

from rheostat.plugins import (
    Duration,
    HostObject,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    Url,
)
from rheostat.testing import FlagSourceContract
from rheostat_flagsources.http.unleash import UnleashOptions, UnleashSource
from support.children import RHEOSTAT, Child, ended, parsed
from support.pages import DOCS, command, log_lines, unpack
from support.vendors.faults import Fault
from support.vendors.unleash import (
    FEATURES_PATH,
    UnleashServer,
    feature,
    feature_of,
    only_for,
    strategy,
    variant,
)
from support.vendors.wire import Page

PATIENCE = 20.0
HOST = "the_hosts_unleash"
"""The name of the module that stands for the application's."""


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on loopback are asked without the proxy that the environment may have."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestUnleash(FlagSourceContract):
    """The contract of any source, with a server that takes requests, and is silent."""

    says = (bool, str)
    # A variant may have no payload, but none that is null.
    odd = (10**30, "", "x" * 2000, [1, 2], {"a": 1})

    @pytest.fixture(autouse=True)
    def serving(self) -> Iterator[None]:
        with UnleashServer() as self.server:
            yield

    def section(self) -> str:
        token = self.server.api_token
        return f"{{kind: unleash, url: '{self.server.api}', api_token: '{token}', poll_interval: 20ms, timeout: 500ms}}"

    def say(self, flags: Mapping[str, object]) -> None:
        self.server.set_flags(flags)

    def break_down(self) -> None:
        self.server.fault = Fault.HANG

    def mend(self) -> None:
        self.server.mend()


@pytest.fixture
def server() -> Iterator[UnleashServer]:
    with UnleashServer() as opened:
        yield opened


class Watched:
    """An open source, and a way to wait for what it says."""

    def __init__(
        self, server: UnleashServer, wanted: Mapping[str, type], instance: str = "host-1", **more: Any
    ) -> None:
        quick = {"poll_interval": Duration(0.02), "timeout": Duration(0.5), "start_wait": Duration(0.1)}
        own = {} if "client" in more else {"url": Url(server.api), "api_token": Secret(server.api_token)}
        identity = Identity("shop", instance, {"role": "api", "name": "J\udcfcrgen"}, 7)
        self.source = UnleashSource(UnleashOptions(**{**quick, **own, **more}), identity)
        self._wanted = wanted
        self._called = threading.Event()

    def __enter__(self) -> Self:
        self.source.open(self._called.set)
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def now(self) -> Reading | SourceUnavailable:
        try:
            return self.source.read(self._wanted)
        except SourceUnavailable as unavailable:
            return unavailable

    def until(self, wanted: Callable[[Reading | SourceUnavailable], object]) -> Any:
        """What it says, once that is wanted."""
        deadline = time.monotonic() + PATIENCE
        while not wanted(said := self.now()):
            assert time.monotonic() < deadline, said
            self._called.wait(self.source.poll_interval)
            self._called.clear()
        return said

    def reading(self, values: Mapping[str, object] | None = None) -> Reading:
        """One with these values, or the first there is."""
        found = self.until(lambda said: isinstance(said, Reading) and values in (None, said.values))
        assert isinstance(found, Reading)
        return found

    def complaint(self, of: str) -> str:
        """Its reason, once it has these words."""
        return str(self.until(lambda said: type(said) is SourceUnavailable and of in said.reason).reason)


def read(server: UnleashServer, wanted: Mapping[str, type], **more: Any) -> Reading:
    with Watched(server, wanted, **more) as watched:
        return watched.reading()


# What a flag is


def test_what_a_toggle_comes_to_is_a_matter_of_what_is_wanted(server: UnleashServer) -> None:
    """A bool is whether it is enabled; all else is its variant's payload, or name, and nothing while it is disabled."""
    server.set_features(
        [
            feature("on", variants=[variant("high", 97)]),
            feature_of("off", False),
            feature("rate", variants=[variant("high", 97)]),
            feature("share", strategy(variants=[variant("half", 0.5)])),
            feature("mode", variants=[variant("wall")]),
            feature("empty", variants=[variant("none", "")]),
            feature("disabled_rate", enabled=False, variants=[variant("high", 97)]),
            feature_of("bare", True),
        ]
    )
    wanted = {"on": bool, "off": bool, "rate": int, "share": float, "mode": str, "empty": str, "missing": bool}
    reading = read(server, {**wanted, "disabled_rate": int, "bare": int})
    assert {"on": True, "off": False, "rate": "97", "share": "0.5", "mode": "wall", "empty": ""} == reading.values
    assert {
        "bare": "the toggle is enabled, but has no variant; expected one whose payload is the value"
    } == reading.errors
    assert {
        "on": "enabled, variant high",
        "off": "disabled",
        "rate": "enabled, variant high",
        "share": "enabled, variant half",
        "mode": "enabled, variant wall",
        "empty": "enabled, variant none",
        "disabled_rate": "disabled",
        "bare": "enabled",
    } == reading.reasons


def test_where_any_type_will_do_a_toggle_is_its_variant_or_whether_it_is_enabled(server: UnleashServer) -> None:
    server.set_flags({"on": True, "off": False, "rate": 97, "mode": "wall"})
    reading = read(server, dict.fromkeys(("on", "off", "rate", "mode"), object))
    assert {"on": True, "off": False, "rate": "97", "mode": "wall"} == reading.values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("userId", "host-1"),
        ("sessionId", "host-1"),
        ("appName", "shop"),
        ("environment", "production"),
        ("application", "shop"),
        ("instance", "host-1"),
        ("pid", "7"),
        ("role", "api"),
        ("name", "J?rgen"),
        ("region", "eu"),
        ("canary", "true"),
        ("remoteAddress", "10.0.0.7"),
    ],
)
def test_this_process_can_be_told_from_others(server: UnleashServer, name: str, value: str) -> None:
    """By the context's own fields, the identity, the tags, and the attributes, which may be fields too."""
    server.set_features(
        [
            feature("ours", strategy(constraints=[only_for(name, value)])),
            feature("others", strategy(constraints=[only_for(name, value, inverted=True)])),
        ]
    )
    attributes = {"region": "eu", "canary": True, "remoteAddress": "10.0.0.7", "nothing": None}
    reading = read(server, {"ours": bool, "others": bool}, environment="production", attributes=attributes)
    assert {"ours": True, "others": False} == reading.values


def test_parents_and_segments_are_followed(server: UnleashServer) -> None:
    """A toggle depends on its parents, and a strategy on its segments, whichever of them changes."""
    child = feature("child", dependencies=[{"feature": "parent", "enabled": True}])
    ours = {"id": 7, "name": "ours", "constraints": [only_for("role", "api")]}
    theirs = {"id": 7, "name": "ours", "constraints": [only_for("role", "web")]}
    parent = feature("parent", strategy(segments=[7]))
    with Watched(server, {"child": bool}) as watched:
        server.set_features([child, parent], [ours])
        watched.reading({"child": True})
        server.set_features([child, parent], [theirs])
        watched.reading({"child": False})
        server.set_features([child, feature("parent")])
        watched.reading({"child": True})
        server.set_features([child])
        alone = watched.reading({"child": False})
    assert {"child": "disabled: it depends on parent, which the server has not sent"} == alone.reasons


def test_a_gradual_rollout_takes_a_share_of_the_instances_and_keeps_it(server: UnleashServer) -> None:
    """Also where Unleash was told to leave it to chance: the draw is by instance, not at each look."""
    half = {"rollout": "50", "groupId": "g"}
    server.set_features(
        [
            feature("default", strategy(parameters={**half, "stickiness": "default"})),
            feature("random", strategy(parameters={**half, "stickiness": "random"})),
            feature("legacy", strategy("gradualRolloutRandom", parameters={"percentage": "50"})),
            feature(
                "variants",
                variants=[
                    variant("one", 1, weight=500, stickiness="random"),
                    variant("two", 2, weight=500, stickiness="random"),
                ],
            ),
        ]
    )
    wanted = {"default": bool, "random": bool, "legacy": bool, "variants": int}
    found: dict[str, list[object]] = {flag: [] for flag in wanted}
    for number in range(24):
        with Watched(server, wanted, instance=f"host-{number}") as watched:
            first = watched.reading()
            assert all(watched.now() is first for _ in range(20))
        for flag in wanted:
            found[flag].append(first.values[flag])
    for flag, values in found.items():
        assert 4 <= values.count(values[0]) <= 20, (flag, values)


def test_time_passes_though_nothing_is_changed(server: UnleashServer) -> None:
    """A toggle that is enabled until a moment is disabled after it, without another answer of the server's."""
    soon = time.time() + 0.6
    until = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(soon)) + f".{int(soon % 1 * 1000):03d}Z"
    before = only_for("currentTime", operator="DATE_BEFORE", value=until)
    server.set_features([feature("on", strategy(constraints=[before]))])
    with Watched(server, {"on": bool}) as watched:
        watched.reading({"on": True})
        watched.until(lambda said: isinstance(said, Reading) and said.values == {"on": False})


@pytest.mark.parametrize(
    "broken",
    [
        {"enabled": "yes"},
        {"strategies": "all"},
        {"strategies": [{"name": "flexibleRollout", "parameters": {"rollout": 50}}]},
        {"strategies": None},
        {"dependencies": "x", "strategies": [1]},
    ],
    ids=str,
)
def test_a_malformed_toggle_harms_no_other(server: UnleashServer, broken: Mapping[str, object]) -> None:
    """The engine would pass over all features without a word; here it is an error of that one."""
    server.set_features([feature_of("on", True), {**feature("broken"), **broken}, feature_of("rate", 97)])
    reading = read(server, {"on": bool, "broken": bool, "rate": int})
    assert {"on": True, "rate": "97"} == reading.values
    assert ["broken"] == list(reading.errors)
    assert reading.errors["broken"].startswith("malformed toggle: ")


# What is asked


def test_what_is_asked_for_and_as_whom(server: UnleashServer) -> None:
    """With the token, by project and prefix; nothing is reported, and what has not changed is not sent again."""
    server.set_features([feature_of("profiling_on", True), feature_of("other", True)])
    headers = {"UNLEASH-APPNAME": Secret("gitlab-production"), "X-Extra": Secret("more")}
    with Watched(
        server, {"profiling_on": bool}, project="default", name_prefix="profiling_", headers=headers
    ) as watched:
        assert {"profiling_on": True} == watched.reading().values
        assert ["profiling_on"] == list(watched.source.known_flags())
        server.wait_for(lambda: len(server.fetches) > 2)
    assert {f"{FEATURES_PATH}?project=default&namePrefix=profiling_"} == {each.path for each in server.requests}
    first, second, *_ = server.fetches
    assert (None, True) == (first.headers["If-None-Match"], bool(second.headers["If-None-Match"]))
    assert [server.api_token] == first.headers.get_all("Authorization")
    assert ["gitlab-production"] == first.headers.get_all("Unleash-AppName")
    assert ("more", "5.1.0") == (first.headers["X-Extra"], first.headers["Unleash-Client-Spec"])


def test_a_whole_environment_of_features_is_taken(server: UnleashServer) -> None:
    """A thousand of them, which are more than other documents may have."""
    server.set_features([feature(f"feature_{number}", description="d" * 500) for number in range(1000)])
    assert {"feature_999": True} == read(server, {"feature_999": bool}).values


# When the server fails

FAULTS = {
    Fault.HANG: "no whole answer in time, timeout is 0.5 s",
    Fault.TRICKLE: "no whole answer in time, timeout is 0.5 s",
    Fault.CUT: "the connection broke (ProtocolError)",
    Fault.RESET: "Connection reset by peer",
    Fault.REFUSED: "Connection refused",
    Fault.STATUS_400: "HTTP 400",
    Fault.STATUS_401: "HTTP 401: are the credentials right?",
    Fault.STATUS_403: "HTTP 403: are the credentials right?",
    Fault.STATUS_404: "HTTP 404: is url right?",
    Fault.STATUS_429: "HTTP 429",
    Fault.STATUS_500: "HTTP 500",
    Fault.STATUS_503: "HTTP 503",
    **dict.fromkeys(
        (Fault.GARBAGE, Fault.HTML, Fault.EMPTY, Fault.MALFORMED),
        "found no answer of Unleash's client API, expected JSON with features: does url end with /api?",
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_whatever_the_server_does_is_said_and_overcome(server: UnleashServer, fault: Fault) -> None:
    """In one line that is the same each time; there is no reading from the start on, nor after one that was good."""
    server.set_flags({"on": True})
    with Watched(server, {"on": bool}) as watched:
        watched.reading({"on": True})
        server.fault = fault
        with Watched(server, {"on": bool}) as late:
            assert f"{server.api}: {FAULTS[fault]}" == watched.complaint(FAULTS[fault])
            assert server.api_token not in late.complaint(FAULTS[fault])
            server.mend()
            server.set_flags({"on": False})
            watched.reading({"on": False})
            late.reading({"on": False})


def test_no_fault_is_left_out() -> None:
    """Bad headers do no harm: the answer is there."""
    assert set(UnleashServer.faults) == {*FAULTS, Fault.BAD_HEADERS}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            Page(gzip.compress(bytes(100 * 2**20)), headers={"Content-Encoding": "gzip"}),
            "an answer of more than 4096 KiB",
        ),
        (Page(b" " * 5 * 2**20), "an answer of more than 4096 KiB"),
        (Page(b"[" * 100_000), "found no answer of Unleash's client API"),
        (Page(b'{"version": 2, "features": null}'), "found no answer of Unleash's client API"),
        (Page(b'{"version": 2, "features": [{"enabled": true}]}'), "found no answer of Unleash's client API"),
    ],
    ids=["bomb", "large", "deep", "null", "nameless"],
)
def test_an_answer_that_is_none_is_said(server: UnleashServer, page: Page, expected: str) -> None:
    server.set_flags({"on": True})
    with Watched(server, {"on": bool}) as watched:
        watched.reading({"on": True})
        server.instead = page
        watched.complaint(expected)
        server.instead = None
        watched.reading({"on": True})


def test_credentials_go_nowhere_else(server: UnleashServer) -> None:
    """Not to where a redirect leads, even if features are there."""
    with UnleashServer() as elsewhere:
        elsewhere.set_flags({"on": True})
        server.instead = Page(status=302, headers={"Location": f"{elsewhere.api}/client/features"})
        with Watched(server, {"on": bool}) as watched:
            said = watched.complaint("HTTP 302: the flags are elsewhere")
        assert [] == elsewhere.requests
    assert server.api_token not in said


def test_a_server_that_wants_to_be_left_alone_is(server: UnleashServer) -> None:
    server.instead = Page(status=503, headers={"Retry-After": "30"})
    with Watched(server, {"on": bool}) as watched:
        said = watched.until(lambda said: isinstance(said, SourceUnavailable) and "503" in said.reason)
    assert 28 < said.retry_at - time.monotonic() < 31


# How it lives in a process

LIVED = """\
import json, os, sys, threading, time
from rheostat.plugins import Duration, Identity, Secret, Url
from rheostat_flagsources.http.unleash import UnleashOptions, UnleashSource

options = UnleashOptions(url=Url(sys.argv[1]), api_token=Secret(sys.argv[2]), poll_interval=Duration(0.02))
source = UnleashSource(options, Identity("shop", "host-1", {}, 1))
source.open(lambda: None)
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    try:
        values = dict(source.read({"on": bool}).values)
        break
    except Exception:
        time.sleep(0.01)
threads = [each.name for each in threading.enumerate()]
vendors = [each for each in ("UnleashClient", "apscheduler", "fcache", "requests") if each in sys.modules]
print(json.dumps([values, threads, vendors]), flush=True)
"""


def test_it_is_one_thread_without_sdk_or_files(server: UnleashServer, tmp_path: Path) -> None:
    """It begins neither the SDK nor what that brings, writes nothing, and holds up no exit with a server that hangs."""
    server.set_flags({"on": True})
    script = tmp_path / "lived.py"
    script.write_text(LIVED)
    home = tmp_path / "home"
    home.mkdir()
    env = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": ":".join(sys.path)}
    with Child([sys.executable, str(script), server.api, server.api_token], home, env) as child:
        line = child.out.next()
        server.fault = Fault.HANG
        began = time.monotonic()
        assert 0 == child.process.wait(PATIENCE)
        assert time.monotonic() - began < 3.0
        assert [] == child.err.rest()
    assert [{"on": True}, ["MainThread", "rheostat-unleash"], []] == json.loads(line or "")
    assert [] == list(home.iterdir())


# The application's own client


class Everywhere:
    """A strategy of the application's own."""

    def apply(self, parameters: Mapping[str, str], context: Mapping[str, Any]) -> bool:
        return parameters["where"] == context["properties"]["role"]


class Unfit:
    """One that the application should not have."""

    def apply(self, parameters: Mapping[str, str], context: Mapping[str, Any]) -> bool:
        raise RuntimeError("no")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType(HOST)
    monkeypatch.setitem(sys.modules, HOST, module)
    return module


@pytest.fixture
def make_client(server: UnleashServer, tmp_path: Path) -> Iterator[Callable[..., UnleashClient]]:
    made: list[UnleashClient] = []

    def make(**more: Any) -> UnleashClient:
        authorized = {"Authorization": server.api_token}
        settings = {"app_name": "the-shop", "instance_id": f"i{len(made)}", "custom_headers": authorized, **more}
        made.append(
            UnleashClient(
                settings.pop("url", server.api), cache_directory=str(tmp_path), disable_metrics=True, request_timeout=1,
                request_retries=0, **settings,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    # One that was never initialised the older versions cannot destroy.
    for each in filter(lambda each: each.is_initialized, made):
        each.destroy()


CLIENT: Mapping[str, Any] = {"client": HostObject.from_text(f"{HOST}:client")}


def test_a_clients_settings_are_used_and_it_is_left_alone(
    server: UnleashServer, host: ModuleType, make_client: Callable[..., UnleashClient]
) -> None:
    """Its address, headers, project, strategies and context; nothing is evaluated or counted through it."""
    events: list[Any] = []
    strategies = {"everywhere": Everywhere(), "unfit": Unfit()}
    client = make_client(
        custom_strategies=strategies, event_callback=events.append, environment="staging", project_name="default"
    )
    host.client = client
    server.set_features(
        [
            feature("on", strategy("everywhere", parameters={"where": "api"}), impressionData=True),
            feature("unfit", strategy("unfit")),
            feature("app", strategy(constraints=[only_for("appName", "the-shop"), only_for("environment", "staging")])),
            feature("else", project="other"),
        ]
    )
    with Watched(server, {"on": bool, "unfit": bool, "app": bool, "else": bool}, **CLIENT) as watched:
        reading = watched.reading()
    assert {"on": True, "app": True} == reading.values
    assert ["unfit"] == list(reading.errors)
    assert ("the-shop", "i0") == tuple(
        server.fetches[0].headers[f"Unleash-{name}"] for name in ("AppName", "InstanceId")
    )
    engine = client.engine if hasattr(client, "engine") else client._engine
    assert ([], False, None) == (events, client.is_initialized, engine.get_metrics())


def test_a_client_that_believes_itself_ready_is_not_believed(
    server: UnleashServer,
    host: ModuleType,
    make_client: Callable[..., UnleashClient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a dead server it is initialised, with the features that an earlier process has left in a file."""
    caplog.set_level(logging.CRITICAL)
    server.set_flags({"on": True})
    make_client().initialize_client()
    server.fault = Fault.REFUSED
    client = make_client()
    client.initialize_client()
    host.client = lambda: client
    assert (True, True) == (client.is_initialized, client.is_enabled("on"))
    with Watched(server, {"on": bool}, **CLIENT) as watched:
        assert f"{server.api}: Connection refused" == watched.complaint("refused")
        server.mend()
        watched.reading({"on": True})
        server.fault = Fault.STATUS_500
        watched.complaint("HTTP 500")


def test_a_client_may_come_late_and_be_made_anew(
    server: UnleashServer, host: ModuleType, make_client: Callable[..., UnleashClient]
) -> None:
    """Until the application has one the source is not ready; another client, or another token, is followed."""
    server.set_flags({"on": True})
    host.client = None
    with Watched(server, {"on": bool}, client=CLIENT["client"], start_wait=Duration(30.0)) as patient:
        assert isinstance(patient.now(), NotReady)
    with UnleashServer() as other, Watched(server, {"on": bool}, **CLIENT) as watched:
        assert f"{HOST}:client: it gave None, expected the application's object" == watched.complaint("None")
        host.client = make_client(custom_headers={"Authorization": "old"})
        watched.complaint("HTTP 401")
        host.client.unleash_custom_headers = {"Authorization": server.api_token}
        watched.reading({"on": True})
        other.set_flags({"on": False})
        host.client = fit = make_client(url=other.api)
        watched.reading({"on": False})
        host.client = object()
        watched.complaint("found an object of type object, expected an UnleashClient")
        host.client = make_client(url="not an address")
        watched.complaint("its settings cannot be used: url: expected an address")
        host.client = fit
        other.set_flags({"on": True})
        watched.reading({"on": True})


# Options


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        ({"url": None}, "url"),
        ({"client": HostObject.from_text("a:b")}, "url"),
        ({"url": Url("unleash.example.com/api")}, "url"),
        ({"url": Url("http://unleash.example.com/api?project=x")}, "url"),
        ({"url": Url("http://user:word@unleash.example.com/api"), "api_token": Secret("x")}, "api_token"),
        ({"url": None, "client": HostObject.from_text("a:b"), "api_token": Secret("x")}, "api_token"),
        ({"api_token": Secret("a\nb")}, "headers"),
        ({"headers": {"a b": Secret("x")}}, "headers"),
        ({"poll_interval": Duration(0.0)}, "poll_interval"),
        ({"timeout": Duration(0.0)}, "timeout"),
        ({"start_wait": Duration(0.0)}, "start_wait"),
        ({"client_key_file": "k"}, "client_key_file"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], blamed: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        UnleashOptions(**{"url": Url("http://127.0.0.1/api"), **options})
    assert {blamed} == caught.value.expected.keys()


# From the command line

PAGE = DOCS / "sources/unleash.md"
ADDRESS = "https://unleash.example.com/api"
WAITING = "import sys; sys.stdin.read()"


@pytest.fixture
def folder(server: UnleashServer, tmp_path: Path) -> Path:
    """The page's configuration, with another address and nothing profiled, and the features that its plan shows."""
    unpack(PAGE, tmp_path)
    high = strategy(variants=[variant("high", 400)])
    server.set_features(
        [
            feature("profiling_enabled"),
            feature("profiling_sample_rate", high),
            feature("profiling_mode", enabled=False, variants=[variant("wall")]),
        ]
    )
    amend(tmp_path, {ADDRESS: server.api})
    return tmp_path


def amend(folder: Path, replaced: Mapping[str, str]) -> None:
    config = folder / "config.yaml"
    text = config.read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)


def env(server: UnleashServer) -> dict[str, str]:
    return {"UNLEASH_API_TOKEN": server.api_token, "no_proxy": "127.0.0.1"}


@contextmanager
def governed(server: UnleashServer, folder: Path, lease: str = "15m") -> Iterator[Child]:
    config = folder / "config.yaml"
    amend(
        folder,
        {"kind: unleash": "kind: unleash\n  poll_interval: 50ms\n  timeout: 1s", "kind: pyroscope": "kind: noop"},
    )
    config.write_text(config.read_text() + f"policy: {{start_after: 50ms, cooldown: 0s, hold_last_good: {lease}}}\n")
    command = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "-c", WAITING]
    with Child(command, folder, env(server)) as child:
        yield child


def test_plan_is_the_one_of_the_page(server: UnleashServer, folder: Path) -> None:
    """It says what was asked and given; a flag that is not there may be misspelt."""
    block = command(PAGE, "rheostat plan")
    assert block.output == ended(block.command, folder, env(server)).stdout
    amend(folder, {"profiling_enabled": "profiling_enable"})
    assert "profiling_enabled" in ended(block.command, folder, env(server)).stdout


def test_check_and_plan_say_what_fails(server: UnleashServer, folder: Path) -> None:
    """A server that refuses is a finding of the plan; the token is in neither."""
    amend(folder, {"kind: pyroscope": "kind: noop"})
    checked = ended([*RHEOSTAT, "check", "--online", "config.yaml"], folder, env(server))
    assert (0, f"{folder}/config.yaml: fine\n", "") == (checked.returncode, checked.stdout, checked.stderr)
    server.fault = Fault.STATUS_401
    plan = ended([*RHEOSTAT, "plan", "config.yaml"], folder, env(server))
    assert 1 == plan.returncode
    assert f"{server.api}: HTTP 401: are the credentials right?" in plan.stdout
    assert server.api_token not in plan.stdout + plan.stderr


def test_a_process_follows_and_outlives_an_outage(server: UnleashServer, folder: Path) -> None:
    """It starts and stops with the toggle; an outage holds what was last good for the lease, and then it is off."""
    with governed(server, folder, lease="1s") as child:
        assert 250 == child.event("transition", to="running")["settings"]["sample_rate"]
        server.set_flags({"profiling_enabled": False})
        child.event("transition", to="stopped")
        server.set_flags({"profiling_enabled": True})
        child.event("transition", to="running")
        began = time.monotonic()
        server.fault = Fault.STATUS_401
        failed = parsed(child.err.until(lambda line: "401" in line))["message"]
        assert "lease" == child.event("transition", to="stopped")["cause"]["kind"]
        assert time.monotonic() - began > 0.9
        server.mend()
        recovered = child.event("source_recovered")["message"]
        child.event("transition", to="running")
        assert 0 == child.finish()
    said = [re.sub(r"in \d+ (ms|s)", "in 15 s", failed.replace(server.api, ADDRESS)), recovered]
    assert log_lines(PAGE) == said


def test_a_server_that_never_answers_turns_nothing_on(server: UnleashServer, folder: Path) -> None:
    """Though the default is on."""
    amend(folder, {"default: false": "default: true"})
    server.fault = Fault.HANG
    with governed(server, folder) as child:
        child.event("source_unavailable")
        assert 0 == child.finish()
        assert [] == [each for each in child.events() if each["event"] == "transition"]
