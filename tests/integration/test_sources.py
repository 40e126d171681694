"""Each flag source against each way in which its product fails, governed by the real control thread."""

import gc
import json
import logging
import re
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ldclient.impl.datasource.streaming as ld_streaming
import pytest
from growthbook import GrowthBook as GrowthBookClient
from ldclient import Config as LDConfig
from ldclient import LDClient
from openfeature import api
from openfeature.event import ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails, Reason

import rheostat
from rheostat import State, Status
from rheostat._cli.commands import FINDING, main
from rheostat._control.watch import Seen, Watch
from rheostat.plugins import (
    Duration,
    FlagSource,
    HostObject,
    Identity,
    InvalidOptions,
    NotReady,
    Reading,
    Secret,
    SourceUnavailable,
    Url,
    import_vendor,
)
from rheostat_flagsources.growthbook import GrowthBookOptions, GrowthBookSource, feed
from rheostat_flagsources.launchdarkly import LaunchDarklyOptions, LaunchDarklySource
from rheostat_flagsources.openfeature import OpenFeatureOptions, OpenFeatureSource
from support.children import PATIENCE
from support.products import (
    HOST,
    PRODUCTS,
    Fallback,
    Flagd,
    Flags,
    Flapping,
    GrowthBook,
    LaunchDarkly,
    Malformed,
    Override,
    Product,
    Provider,
    Unavailable,
    Unnoticed,
    flagd_flag,
    install,
    storage,
    uninstall,
)
from support.vendors.faults import Fault
from support.vendors.growthbook import DECRYPTION_KEY, GrowthBookServer
from support.vendors.launchdarkly import LaunchDarklyServer, flag_of, null_flag, off_flag, ruled_flag, unevaluable_flag

WATCHED = 3.0
LEASE = 900.0

SAID: Flags = {"on": True, "rate": 97, "mode": "wall"}
FLIPPED: Flags = {**SAID, "rate": 50}

ENABLED = {"flag": "on", "default": False, "clamp": {"otherwise": "hold"}}
SETTINGS = {
    "rate": {"flag": "rate", "default": 20, "clamp": {"max": 250, "otherwise": "hold"}},
    "mode": {"flag": "mode", "default": "gil"},
}


class Time:
    """The module `time`, with a monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Looks:
    """Counts the looks at the sources that have come to their end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = Watch.look

        def counted(watch: Watch, now: float) -> Seen:
            seen = look(watch, now)
            self.count += 1
            return seen

        monkeypatch.setattr(Watch, "look", counted)


class Governed:
    """This process, governed by a source."""

    def __init__(
        self, reconciler: rheostat.Reconciler, clock: Time, looks: Looks, log: pytest.LogCaptureFixture
    ) -> None:
        self._reconciler = reconciler
        self._looks = looks
        self._clock = clock
        self._log = log

    @property
    def status(self) -> Status:
        return self._reconciler.status()

    def until(self, holds: Callable[[Status], object], timeout: float = PATIENCE) -> Status:
        """The first status for which this holds."""
        deadline = time.monotonic() + timeout
        while not holds(status := self.status):
            assert time.monotonic() < deadline, f"{status}\n{self._log.text}"
            time.sleep(0.003)
        return status

    def until_runs(self, **settings: object) -> Status:
        """Wait until a session with at least these settings runs."""
        return self.until(lambda status: settings.items() <= status.settings.items() and status.settings)

    def pass_(self, seconds: float) -> None:
        """Let time pass for the control thread, and wait until it has looked."""
        self._clock.ahead += seconds
        looks = self._looks.count
        self._reconciler.nudge()
        # One may have begun before.
        self.until(lambda _: self._looks.count >= looks + 2 or self._reconciler.nudge())

    def events(self, event: str) -> list[logging.LogRecord]:
        return [record for record in self._log.records if getattr(record, "rheostat_event", "") == event]

    def complaints(self) -> list[str]:
        return [str(vars(record)["rheostat_reason"]) for record in self.events("source_unavailable")]

    def others_lines(self) -> list[str]:
        """The records of anybody else."""
        return [
            f"{record.name}: {record.getMessage()}"
            for record in self._log.records
            if record.name not in ("rheostat", "rheostat.noop")
        ]


@pytest.fixture
def govern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    """A context manager in which this process is governed by a `source:` section."""
    clock, looks = Time(), Looks(monkeypatch)
    monkeypatch.setattr("rheostat._lifecycle.controller.time", clock)
    monkeypatch.setattr("rheostat._lifecycle.start.time", clock)
    caplog.set_level(logging.INFO)

    @contextmanager
    def governed(
        source: Mapping[str, object],
        *,
        policy: Mapping[str, object] = {},
        settings: Mapping[str, object] = SETTINGS,
        enabled: Mapping[str, object] = ENABLED,
        **more: object,
    ) -> Iterator[Governed]:
        path = tmp_path / "config.yaml"
        document = {
            "version": 1,
            "application": "shop",
            "source": source,
            "backend": {"kind": "noop"},
            "enabled": enabled,
            "settings": settings,
            "policy": {"cooldown": 0, "hold_last_good": LEASE, **policy},
            **more,
        }
        path.write_text(json.dumps(document))
        before = set(threading.enumerate())
        reconciler = rheostat.start(path, strict=True)
        try:
            yield Governed(reconciler, clock, looks, caplog)
        finally:
            assert reconciler.stop(PATIENCE)
            await_end_of(before)
            if "launchdarkly" in str(source):
                collect()

    return governed


def await_end_of(before: set[threading.Thread]) -> None:
    """Wait for the threads of the source."""
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith(("rheostat", "ldclient", "Flagd")):
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """The objects of all these packages need not be looked through at each collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def collect() -> None:
    """LaunchDarkly's SDK leaves sockets to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sources and SDKs try again in a moment where they would wait for seconds or minutes."""
    monkeypatch.setattr(feed, "_FIRST_RETRY", 0.1)
    monkeypatch.setattr(feed, "_LONGEST_RETRY", 0.4)
    monkeypatch.setattr(feed, "_HOPELESS_RETRY", 0.3)
    monkeypatch.setattr(feed, "_LONGEST_ANSWER", 1)
    server = GrowthBookOptions.server
    monkeypatch.setattr(GrowthBookOptions, "server", lambda options: server(options)._replace(poll_interval=0.1))
    # Older versions of the SDK leave the delays to the stream.
    if find_spec("ldclient.impl.retry") is not None:
        retry = import_module("ldclient.impl.retry")
        monkeypatch.setattr(retry, "EXTENDED_INITIAL_DELAY", 0.2)
        monkeypatch.setattr(retry, "EXTENDED_CEILING_DELAY", 0.4)
        monkeypatch.setattr(retry, "NORMAL_STREAMING_CEILING_DELAY", 0.4)
        for_streaming = ld_streaming.for_streaming
        monkeypatch.setattr(ld_streaming, "for_streaming", lambda _: for_streaming(0.1))


def cases() -> Iterator[Any]:
    for name, make in PRODUCTS.items():
        for fault in make(Path()).faults:
            yield pytest.param(name, str(fault), id=f"{name}-{fault}")


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("name", "fault"), list(cases()))
@pytest.mark.newest
def test_fault(name: str, fault: str, tmp_path: Path, govern: Any) -> None:
    """Whatever the product does, the last values hold for the lease; it is told once, and recovered from."""
    with PRODUCTS[name](tmp_path) as product:
        product.say(SAID)
        with govern(product.section()) as it:
            it.until_runs(rate=97, mode="wall")
            it.until(lambda status: status.source.available)
            meet(it, product, fault)
            assert it.until_runs(rate=97, mode="wall").source.available
            product.say(FLIPPED)
            assert it.until_runs(rate=50, mode="wall").source.available
        assert [] == it.others_lines()


def meet(it: Governed, product: Product, fault: str) -> None:
    seq = it.status.seq
    product.break_(fault)
    match product.faults[fault]:
        case Unavailable() as effect:
            sit_out(it, product, effect, seq)
        case Unnoticed(flips):
            go_on(it, product, flips)
        case Flapping():
            flap(it, product, seq)
        case Malformed(errors):
            do_otherwise(it, product, errors)


def sit_out(it: Governed, product: Product, effect: Unavailable, seq: int) -> None:
    """The values hold for the lease, and no longer."""
    status = it.until(lambda status: effect.reason in status.source.reason and not status.source.available)
    assert product.where in status.source.reason
    assert status.source.stale_for is not None
    assert (State.RUNNING, seq, SAID["rate"]) == (status.state, status.seq, status.settings["rate"])
    complaints = it.complaints()
    assert len(set(complaints)) == len(complaints)
    it.pass_(LEASE + 1)
    if effect.left is None:
        gone = it.until(lambda status: status.state is State.STOPPED).last_transition
        assert gone is not None
        assert "lease" == gone.cause.kind
    else:
        it.until_runs(**effect.left)
    product.mend()
    it.until(lambda status: status.source.available)
    assert 1 == len(it.events("source_recovered"))
    # Once at first, and once more after the minutes that have passed.
    assert max(Counter(it.complaints()).values()) <= 2


def go_on(it: Governed, product: Product, flips: bool) -> None:
    """Nothing is wrong."""
    if flips:
        product.say({**SAID, "rate": 60})
        it.until_runs(rate=60)
    it.pass_(LEASE + 1)
    status = it.status
    assert (State.RUNNING, True) == (status.state, status.source.available)
    assert [] == it.complaints()
    product.mend()
    product.say(SAID)
    it.until_runs(rate=97)
    it.until(lambda status: status.source.available)


def flap(it: Governed, product: Product, seq: int) -> None:
    """Each time that it answers, its flags are followed; all that is told once."""
    before = product.attempts()
    it.until(lambda _: product.attempts() >= before + 2)
    product.say({**SAID, "rate": 60})
    assert seq + 2 == it.until_runs(rate=60).seq
    product.mend()
    product.say(SAID)
    it.until_runs(rate=97)
    it.until(lambda status: status.source.available)
    complaints = it.complaints()
    assert len(set(complaints)) == len(complaints)
    assert len(it.events("source_recovered")) <= len(complaints)


def do_otherwise(it: Governed, product: Product, errors: str) -> None:
    """Each flag becomes what its rule says, without the lease running."""
    status = it.until(lambda status: len(status.adjustments) == 3)
    assert all(errors in each.rule for each in status.adjustments)
    status = it.until_runs(rate=97, mode="gil")
    assert status.source.available
    it.pass_(LEASE + 1)
    assert State.RUNNING is it.status.state
    assert 3 == len(it.events("adjusted"))
    product.mend()
    it.until_runs(mode="wall")
    assert [] == it.complaints()


@pytest.mark.usefixtures("hurry")
def test_what_keeps_failing_is_told_once_a_minute(govern: Any) -> None:
    """With the number of times that it was not told."""
    with GrowthBook() as product:
        product.say(SAID)
        with govern(product.section(), policy={"resync": "1s"}) as it:
            it.until_runs(rate=97)
            product.break_(Fault.STATUS_500)
            it.until(lambda _: it.complaints())
            for cause in (Fault.STATUS_503, Fault.STATUS_500) * 3:
                product.break_(cause)
                it.until(lambda status, cause=cause: f"HTTP {cause}" in status.source.reason)
            assert {"HTTP 500", "HTTP 503"} == {reason[-8:] for reason in it.complaints()}
            assert 2 == len(it.complaints())
            it.pass_(61)
            it.until(lambda _: len(it.complaints()) == 3)
            assert it.events("source_unavailable")[-1].getMessage().endswith(" more times since)")


@pytest.mark.usefixtures("hurry")
@pytest.mark.newest
def test_growthbook_streams_that_broke_are_not_heard_of_again(govern: Any) -> None:
    """Their remains say nothing when the garbage collector takes them, whichever thread it runs in."""
    with GrowthBook() as product:
        product.say(SAID)
        with govern(product.section()) as it:
            for _ in range(4):
                it.until(lambda status: status.source.available)
                product.server.wait_for(lambda: product.server.streams)
                product.break_(Fault.GARBAGE)
                it.until(lambda status: not status.source.available)
                opens = len(product.server.stream_opens)
                product.server.wait_for(lambda opens=opens: len(product.server.stream_opens) > opens)
                product.mend()
            it.until(lambda status: status.source.available)
            gc.collect()
        assert [] == it.others_lines()


@pytest.mark.usefixtures("hurry")
def test_growthbook_stream_that_falls_silent_is_opened_anew(govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """News of the meantime arrive, though no poll was due."""
    monkeypatch.setattr(feed, "_SILENCE", 0.5)
    server = GrowthBookOptions.server
    monkeypatch.setattr(GrowthBookOptions, "server", lambda options: server(options)._replace(poll_interval=3600.0))
    with GrowthBook() as product:
        product.say(SAID)
        with govern(product.section()) as it:
            it.until_runs(rate=97)
            # At first, and once the stream is open.
            product.server.wait_for(lambda: len(product.server.asked(product.server.features_path)) == 2)
            product.server.set_flags(FLIPPED, push=False)
            it.until_runs(rate=50)
            product.server.wait_for(lambda: len(product.server.stream_opens) > 1)


def test_growthbook_says_for_how_long_a_stream_was_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is another time than the one for answers."""
    monkeypatch.setattr(feed, "_SILENCE", 0.5)
    monkeypatch.setattr(feed, "_FIRST_RETRY", 60.0)
    with GrowthBook() as product:
        options = GrowthBookOptions(client_key=Secret(product.server.client_key), api_host=Url(product.server.url))
        followed = feed.Feed(options.server(), lambda: None)
        with closing(followed):
            followed.open()
            deadline = time.monotonic() + PATIENCE
            while not followed.stream_trouble and time.monotonic() < deadline:
                time.sleep(0.01)
            assert f"{product.server.url}: no answer within 0.5 s" == followed.stream_trouble


@pytest.mark.usefixtures("hurry")
@pytest.mark.newest
def test_launchdarkly_stream_that_falls_silent_is_opened_anew(govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK takes it for dead after a while; values hold meanwhile, and what was said arrives."""
    monkeypatch.setattr(ld_streaming, "stream_read_timeout", 1.0)
    with LaunchDarkly() as product:
        product.say(SAID)
        with govern(product.section()) as it:
            it.until_runs(rate=97)
            product.break_(Fault.HANG)
            product.server.set_flags(FLIPPED)
            status = it.until(lambda status: not status.source.available)
            assert (State.RUNNING, 97) == (status.state, status.settings["rate"])
            product.mend()
            assert it.until_runs(rate=50).source.available


@pytest.mark.usefixtures("hurry")
def test_growthbook_asks_again_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often its stream fails meanwhile."""
    monkeypatch.setattr(feed, "_HOPELESS_RETRY", 300.0)
    with GrowthBook() as product:
        product.say(SAID)
        product.server.fault = Fault.STATUS_429
        with opened(growthbook_source(product)):
            product.server.wait_for(lambda: product.server.asked(product.server.features_path))
            first = product.server.asked(product.server.features_path)[0].at
            # The server asks for a second.
            product.server.wait_for(lambda: len(product.server.asked(product.server.features_path)) > 1)
            assert product.server.asked(product.server.features_path)[1].at - first >= 1.0


@pytest.mark.usefixtures("hurry")
def test_growthbook_believes_an_api_that_goes_on_saying_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer older than the stream's may come from a cache, but not for ever: a server is restored, too."""
    monkeypatch.setattr(feed, "_CACHED", 1.5)
    with GrowthBook(streaming=False) as product:
        product.say(FLIPPED)
        with opened(growthbook_source(product)) as heard:
            heard.read_until({"rate": int}, lambda reading: reading.values == {"rate": 50})
            product.server.set_back(3600.0)
            product.say(SAID)
            asked = len(product.server.requests)
            product.server.wait_for(lambda: len(product.server.requests) > asked)
            assert {"rate": 50} == heard.read_until({"rate": int}).values
            heard.read_until({"rate": int}, lambda reading: reading.values == {"rate": 97})


@pytest.mark.newest
def test_launchdarkly_threads_last_words(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Records of the SDK's thread while it ends are kept out of the application's log."""
    monkeypatch.setattr("rheostat_flagsources.launchdarkly._LAST_WORDS", PATIENCE)
    run = ld_streaming.StreamingUpdateProcessor.run

    def run_and_tell(thread: ld_streaming.StreamingUpdateProcessor) -> None:
        run(thread)
        # As long as nobody waits for this thread, the source is closed by then.
        time.sleep(0.2)
        logging.getLogger("urllib3.connectionpool").warning("the stream broke")

    monkeypatch.setattr(ld_streaming.StreamingUpdateProcessor, "run", run_and_tell)
    before = set(threading.enumerate())
    with LaunchDarkly() as product:
        product.say(SAID)
        with opened(launchdarkly_source(product)) as heard:
            heard.read_until({"rate": int}, lambda reading: reading.values)
        await_end_of(before)
    collect()
    assert [] == caplog.messages


# Speed


@pytest.mark.parametrize(
    "name",
    ["growthbook", "growthbook-features-updated", "growthbook-encrypted", "launchdarkly", "openfeature-host"],
)
def test_a_flip_arrives_by_itself(name: str, tmp_path: Path, govern: Any) -> None:
    """No poll and no look that was due anyway is needed for a flip to arrive."""
    with PRODUCTS[name](tmp_path) as product:
        product.say(SAID)
        unhurried = {"poll_interval": "1h"} if name.startswith("growthbook") else {}
        with govern({**product.section(), **unhurried}, policy={"resync": "1h"}) as it:
            it.until_runs(rate=97)
            if isinstance(product, GrowthBook):
                product.server.wait_for(lambda: product.server.streams)
            product.say(FLIPPED)
            it.until_runs(rate=50)
            product.say({**SAID, "on": False})
            it.until(lambda status: status.state is State.STOPPED)


class Broken:
    """A source whose server has begun to misbehave, and what the server was asked since."""

    def __init__(self, product: GrowthBook | LaunchDarkly, fault: Fault) -> None:
        self.name = f"{type(product).__name__} {fault.name}"
        self._product = product
        product.server.fault = fault
        self._at = time.monotonic()

    def moments(self) -> list[float]:
        """Seconds from the break to each request in the time watched."""
        return [each.at - self._at for each in self._product.server.requests if 0 < each.at - self._at <= WATCHED]


@pytest.mark.newest
def test_reconnects_back_off() -> None:
    """However a server misbehaves, in three seconds it is asked a handful of times, not by all at once."""
    with ExitStack() as stack:
        broken = []
        makes: tuple[type[GrowthBook | LaunchDarkly], ...] = (GrowthBook, LaunchDarkly)
        for make in makes:
            for fault in make().server.faults:
                product = stack.enter_context(make())
                product.say(SAID)
                stack.enter_context(contextmanager(connected)(product))  # type: ignore[arg-type]
                broken.append(Broken(product, fault))  # type: ignore[arg-type]
        time.sleep(WATCHED)
        moments = {each.name: each.moments() for each in broken}
    # GrowthBook's API is asked both for features and for the stream, and for features after each new stream.
    most = {"GrowthBook": 10, "LaunchDarkly": 4}
    assert {} == {name: found for name, found in moments.items() if len(found) > most[name.split()[0]]}
    first = [found[0] for name, found in moments.items() if found and name.startswith("LaunchDarkly")]
    assert len(first) >= 8
    assert max(first) - min(first) > 0.05


def connected(product: GrowthBook | LaunchDarkly) -> Iterator[None]:
    """A source of its own, connected to a product as it would be in a service."""
    before = set(threading.enumerate())
    source = growthbook_source(product) if isinstance(product, GrowthBook) else launchdarkly_source(product)
    with opened(source) as heard:
        heard.read_until({"on": bool}, lambda reading: reading.values)
        product.server.wait_for(lambda: product.server.streams)
        yield
        product.server.close()
    await_end_of(before)
    collect()


# What the flags say


class Heard:
    """An open source, read when it calls."""

    def __init__(self, source: FlagSource, changed: threading.Event) -> None:
        self._source = source
        self._changed = changed

    def read_until(
        self,
        wanted: Mapping[str, type],
        holds: Callable[[Reading], object] = lambda _: True,
        patience: float = PATIENCE,
    ) -> Reading:
        """The first reading for which this holds."""
        deadline = time.monotonic() + patience
        said: object = None
        while time.monotonic() < deadline:
            self._changed.clear()
            try:
                said = reading = self._source.read(wanted)
                if holds(reading):
                    return reading
            except SourceUnavailable as unavailable:
                said = unavailable.reason
            self._changed.wait(min(self._source.poll_interval or PATIENCE, deadline - time.monotonic()))
        raise TimeoutError(said)


@contextmanager
def opened(source: FlagSource) -> Iterator[Heard]:
    changed = threading.Event()
    source.open(changed.set)
    try:
        yield Heard(source, changed)
    finally:
        source.close()


def read(source: FlagSource, wanted: Mapping[str, type]) -> Reading:
    """Its first flags."""
    with opened(source) as heard:
        return heard.read_until(wanted)


def identity(instance: str = "host-1", **tags: str) -> Identity:
    return Identity("shop", instance, tags, 4711)


def growthbook_source(product: GrowthBook, who: Identity | None = None) -> GrowthBookSource:
    server = product.server
    options = GrowthBookOptions(
        client_key=Secret(server.client_key),
        api_host=Url(server.url),
        decryption_key=Secret(DECRYPTION_KEY) if server.decryption_key else None,
        streaming=product.streaming,
        poll_interval=Duration(1.0),
    )
    return GrowthBookSource(options, who or identity())


def launchdarkly_source(product: LaunchDarkly, who: Identity | None = None) -> LaunchDarklySource:
    options = LaunchDarklyOptions(sdk_key=Secret(product.server.sdk_key), relay=Url(product.server.url))
    return LaunchDarklySource(options, who or identity())


@pytest.fixture
def host() -> Iterator[None]:
    """An application whose module is forgotten afterwards, and its OpenFeature providers too."""
    yield
    uninstall()
    api.clear_providers()


def evaluated(features: Mapping[str, object], who: Identity) -> Reading:
    """The features that GrowthBook has for somebody."""
    install(client=GrowthBookClient(features=dict(features)))
    source = GrowthBookSource(GrowthBookOptions(client=HostObject.from_text(f"{HOST}:client")), who)
    return read(source, dict.fromkeys(features, object))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (identity("host-1", role="worker"), 97),
        (identity("host-7", role="web"), 50),
        (identity("host-2", role="web"), 10),
        (identity("host-2"), 10),
    ],
)
def test_growthbook_targets_by_role_and_instance(who: Identity, expected: int) -> None:
    """Rules see the tags and the instance."""
    rules = [
        {"id": "workers", "condition": {"role": "worker"}, "force": 97},
        {"id": "one", "condition": {"instance": "host-7"}, "force": 50},
    ]
    assert {"rate": expected} == evaluated({"rate": {"defaultValue": 10, "rules": rules}}, who).values


@pytest.mark.usefixtures("host")
def test_growthbook_rolls_out_by_share() -> None:
    """Each instance is in or out for good, and as many are in as was asked for."""
    rule = {"coverage": 0.3, "hashAttribute": "id", "force": True}
    features = {"on": {"defaultValue": False, "rules": [rule]}}

    def rolled_out() -> list[object]:
        return [evaluated(features, identity(f"host-{number}")).values["on"] for number in range(300)]

    first = rolled_out()
    assert first == rolled_out()
    assert 60 <= first.count(True) <= 120


@pytest.mark.parametrize(("instance", "expected"), [("host-1", 97), ("host-2", 10)])
def test_growthbook_saved_groups_come_encrypted_too(instance: str, expected: int) -> None:
    """A rule may ask whether the instance is in a saved group."""
    rules = [{"condition": {"id": {"$inGroup": "canaries"}}, "force": 97}]
    with GrowthBook(encrypted=True) as product:
        product.server.set_features({"rate": {"defaultValue": 10, "rules": rules}}, {"canaries": ["host-1"]})
        reading = read(growthbook_source(product, identity(instance)), {"rate": int})
    assert {"rate": expected} == reading.values


def gated(by: str, gate: bool = True) -> dict[str, object]:
    """A feature that is only on where another is."""
    condition = {"id": by, "condition": {"value": True}, "gate": gate}
    return {"defaultValue": True, "rules": [{"parentConditions": [condition]}]}


@pytest.mark.usefixtures("host")
def test_growthbook_prerequisites() -> None:
    """Met it has its value; not met it is absent, as for an application; in a circle it is an error of its own."""
    features = {
        "yes": {"defaultValue": True},
        "no": {"defaultValue": False},
        "met": gated("yes"),
        "not_met": gated("no"),
        "one": gated("other"),
        "other": gated("one"),
    }
    reading = evaluated(features, identity())
    assert {"yes": True, "no": False, "met": True} == reading.values
    assert {"one": "cyclic prerequisites", "other": "cyclic prerequisites"} == reading.errors
    assert "prerequisite" == reading.reasons["not_met"]


def test_growthbook_evaluates_only_what_a_payload_says_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a feature, of one that it depends on, or of the saved groups; ``1`` is different from ``True``."""
    evaluated: list[str] = []
    evaluate = GrowthBookClient.eval_feature

    def noted(self: GrowthBookClient, key: str) -> Any:
        evaluated.append(key)
        return evaluate(self, key)

    monkeypatch.setattr(GrowthBookClient, "eval_feature", noted)
    wanted = {"on": bool, "rate": int, "other": bool, "member": bool}
    rule = {"condition": {"instance": {"$inGroup": "hosts"}}, "force": True}
    features = {
        "gate": {"defaultValue": True},
        "on": gated("gate"),
        "rate": {"defaultValue": 1},
        "other": {"defaultValue": True},
        "member": {"defaultValue": False, "rules": [rule]},
    }

    def became(heard: Heard, flag: str, value: object, features: Mapping[str, Any], **groups: list[str]) -> set[str]:
        evaluated.clear()
        product.server.set_features(features, groups)
        before = {"on": True, "rate": 1, "other": True, "member": False}
        expected = {name: each for name, each in {**before, flag: value}.items() if each is not None}
        # As text: the SDK's values are compared with their types.
        heard.read_until(wanted, lambda reading: repr(sorted(reading.values.items())) == repr(sorted(expected.items())))
        return set(evaluated)

    with GrowthBook() as product, opened(growthbook_source(product)) as heard:
        assert {"on", "rate", "other", "member"} == became(heard, "on", True, features)
        assert {"rate"} == became(heard, "rate", 2, {**features, "rate": {"defaultValue": 2}})
        assert {"rate"} == became(heard, "rate", True, {**features, "rate": {"defaultValue": True}})
        became(heard, "on", True, features)
        assert {"on"} == became(heard, "on", None, {**features, "gate": {"defaultValue": False}})
        became(heard, "on", True, features)
        assert set(wanted) == became(heard, "member", True, features, hosts=["host-1"])


@pytest.mark.parametrize("feature", ["no feature", None, 5, [], {"rules": 5}, {"rules": [5]}])
def test_growthbook_malformed_feature_harms_no_other(feature: object) -> None:
    """It has an error or no value; the others have theirs."""
    with GrowthBook(streaming=False) as product:
        product.server.set_features({"on": {"defaultValue": True}, "rate": feature})
        reading = read(growthbook_source(product), {"on": bool, "rate": int})
    assert True is reading.values["on"]
    assert "on" not in reading.errors
    assert "rate" in reading.errors or reading.values.get("rate") is None


def test_launchdarkly_flags(govern: Any) -> None:
    """Rules see the context; what gives no value means the default, what gives a wrong one follows `otherwise`."""
    flags = {
        "on": flag_of(True),
        "targeted": ruled_flag("role", ["worker"], then=97, otherwise=10),
        "elsewhere": ruled_flag("role", ["web"], then=97, otherwise=10),
        "off": off_flag(),
        "null": null_flag(),
        "malformed": unevaluable_flag(),
        "mapping": flag_of({"a": 1}),
    }
    settings = {name: {"flag": name, "default": 1} for name in flags if name != "on"}
    settings["missing"] = {"flag": "missing", "default": 1}
    with LaunchDarkly() as product:
        for name, flag in flags.items():
            product.server.set_raw(name, flag)
        with govern(product.section(), settings=settings, tags={"role": "worker"}) as it:
            status = it.until_runs()
    expected = {"targeted": 97, "elsewhere": 10, "off": 1, "null": 1, "malformed": 1, "mapping": 1, "missing": 1}
    assert expected == status.settings
    assert {"null", "malformed", "mapping"} == {each.setting for each in status.adjustments}
    assert ["MALFORMED_FLAG" in each.rule for each in status.adjustments if each.setting == "malformed"] == [True]


@pytest.mark.newest
def test_launchdarkly_says_when_it_tries_again(govern: Any) -> None:
    """A wrong key is told at once, with the minutes until the next try."""
    with LaunchDarkly() as product, govern({**product.section(), "sdk_key": "sdk-other"}) as it:
        status = it.until(lambda status: status.source.retry_in)
        assert f"{product.where}: HTTP 401: is sdk_key right?" == status.source.reason
        assert status.source.retry_in is not None
        assert 100 < status.source.retry_in <= 300
        assert "; it tries again in " in it.events("source_unavailable")[0].getMessage()
        assert State.STOPPED is status.state


@pytest.mark.newest
def test_launchdarkly_that_answers_before_its_client_is_made(govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK says at the end of its making that it is not connected; when it tries again is known all the same."""
    is_initialized = LDClient.is_initialized

    def first_the_answer(client: LDClient) -> bool:
        provider, said = client.data_source_status_provider, threading.Event()
        provider.add_listener(lambda _: said.set())
        assert provider.status.error is not None or said.wait(PATIENCE)
        return bool(is_initialized(client))

    monkeypatch.setattr(LDClient, "is_initialized", first_the_answer)
    with LaunchDarkly() as product, govern({**product.section(), "sdk_key": "sdk-other"}) as it:
        assert it.until(lambda status: status.source.retry_in).source.retry_in > 100


@pytest.mark.usefixtures("host")
def test_launchdarkly_client_that_the_application_replaces(govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was shut down is let go, and the new one is taken with what it knows already."""
    monkeypatch.setattr("rheostat_flagsources.launchdarkly.EVALUATE_AGAIN", 3600.0)
    with LaunchDarkly() as product:
        product.say(SAID)

        def client() -> LDClient:
            server = product.server
            return LDClient(
                LDConfig(
                    server.sdk_key,
                    base_uri=server.url,
                    stream_uri=server.url,
                    send_events=False,
                    diagnostic_opt_out=True,
                )
            )

        first = client()
        install(client=first)
        with govern({"kind": "launchdarkly", "client": f"{HOST}:client"}) as it:
            it.until_runs(rate=97)
            first.close()
            it.until(lambda status: "was shut down" in status.source.reason)
            product.say(FLIPPED)
            second = client()
            install(client=second)
            assert it.until_runs(rate=50).source.available
            second.close()
        collect()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (lambda: OpenFeatureOptions(start_wait=Duration(0.0)), "start_wait: expected at least 100ms"),
        (
            lambda: LaunchDarklyOptions(sdk_key=Secret("sdk"), start_wait=Duration(0.0)),
            "start_wait: expected at least 100ms",
        ),
        (
            lambda: GrowthBookOptions(client_key=Secret("sdk"), api_host=Url("https://ann:s3cret@example.com")),
            "without a user part",
        ),
        (
            lambda: LaunchDarklyOptions(sdk_key=Secret("sdk"), relay=Url("https://ann:s3cret@example.com")),
            "without a user part",
        ),
    ],
)
def test_options_that_would_harm_are_refused(options: Callable[[], object], expected: str) -> None:
    """A wait of nothing would be a busy loop; a user part would not be sent."""
    with pytest.raises(InvalidOptions, match=expected) as caught:
        options()
    assert "s3cret" not in str(caught.value)


def openfeature_source(who: Identity | None = None, **options: Any) -> OpenFeatureSource:
    """One with the provider that the application has made for it."""
    return OpenFeatureSource(
        OpenFeatureOptions(provider=HostObject.from_text(f"{HOST}:provider"), **options), who or identity()
    )


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (bool, True),
        (int, 97),
        (int, 97.0),
        (float, 97),
        (float, 97.5),
        (str, "wall"),
        (object, True),
        (object, 97),
        (object, 97.5),
        (object, "wall"),
    ],
)
def test_openfeature_value(kind: type, value: object) -> None:
    """A value of the wanted type, or a number of either, is given as it is."""
    install(provider=Provider({"flag": value}))
    reading = read(openfeature_source(), {"flag": kind})
    assert ({"flag": value}, {}) == (reading.values, reading.errors)
    assert type(value) is type(reading.values["flag"])


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (bool, 1),
        (bool, "true"),
        (int, True),
        (int, "97"),
        (float, False),
        (float, "97.5"),
        (str, 97),
        (str, True),
        (str, ["wall"]),
    ],
)
def test_openfeature_mismatch(kind: type, value: object) -> None:
    """A value of another type is an error of that flag alone; a boolean is no number."""
    install(provider=Provider({"flag": value, "other": "fine"}))
    reading = read(openfeature_source(), {"flag": kind, "other": str})
    assert reading.errors["flag"].startswith("TYPE_MISMATCH")
    assert ["flag"] == list(reading.errors)
    assert "fine" == reading.values["other"]


@pytest.mark.usefixtures("host")
def test_openfeature_missing_flag() -> None:
    """A flag that nobody has made is absent."""
    install(provider=Provider())
    reading = read(openfeature_source(), {"flag": int})
    assert ({}, {}, "FLAG_NOT_FOUND") == (reading.values, reading.errors, reading.reasons["flag"])


@pytest.mark.usefixtures("host")
def test_openfeature_provider_that_gives_back_any_default() -> None:
    """As one does that is ready without any data: the flag is absent, and the reason says what that may mean."""

    class Echoing(Provider):
        def resolve_boolean_details(self, flag_key: str, default_value: bool, *_: Any, **__: Any) -> Any:
            return FlagResolutionDetails(default_value, reason=Reason.DEFAULT)

    install(provider=Echoing())
    reading = read(openfeature_source(), {"flag": bool})
    assert ({}, {}) == (reading.values, reading.errors)
    assert "DEFAULT: it gives back any default; undefined, off, or no data" == reading.reasons["flag"]


@pytest.mark.newest
def test_flagd_flags(tmp_path: Path) -> None:
    """A disabled flag is absent; targeting sees the tags and the instance."""
    rule = {"if": [{"==": [{"var": "role"}, "worker"]}, "much", {"==": [{"var": "instance"}, "host-7"]}, "some", "few"]}
    flags = {
        "rate": flagd_flag(None, variants={"much": 97, "some": 50, "few": 10}, defaultVariant="few", targeting=rule),
        "disabled": flagd_flag(True, state="DISABLED"),
    }
    found = []
    for who in (identity(role="worker"), identity("host-7"), identity()):
        with Flagd(tmp_path) as product:
            product.write(json.dumps({"flags": flags}).encode())
            with opened(openfeature_source(who)) as heard:
                reading = heard.read_until({"rate": int, "disabled": bool}, lambda reading: reading.values)
        found.append(reading.values["rate"])
        assert {"rate"} == reading.values.keys()
        assert {} == reading.errors
    assert [97, 50, 10] == found


@pytest.mark.usefixtures("host")
def test_openfeature_stale_values_have_a_beginning() -> None:
    """The lease of stale values runs from when the provider said so, until it is ready again."""
    provider = Provider({"rate": 97})
    install(provider=provider)
    with opened(openfeature_source()) as heard:
        heard.read_until({"rate": int})
        before = time.monotonic()
        provider.emit_provider_stale(ProviderEventDetails())
        stale = heard.read_until({"rate": int}, lambda reading: reading.stale_since is not None)
        assert stale.stale_since is not None
        assert before <= stale.stale_since <= time.monotonic()
        provider.emit_provider_ready(ProviderEventDetails())
        heard.read_until({"rate": int}, lambda reading: reading.stale_since is None)


@pytest.mark.usefixtures("host")
def test_an_openfeature_outage_that_begins_between_two_flags() -> None:
    """It is an outage, not an error of the flags that were asked last."""

    class Failing(Provider):
        asked = 0

        def _resolve(self, flag_key: str, *rest: Any) -> Any:
            self.asked += 1
            if self.asked > 1:
                raise RuntimeError("the link is down")
            return super()._resolve(flag_key, *rest)

    install(provider=Failing({"on": True, "rate": 97}))
    with opened(openfeature_source()) as heard, pytest.raises(TimeoutError, match="GENERAL: the link is down"):
        heard.read_until({"on": bool, "rate": int}, lambda _: False, patience=1.0)


@pytest.mark.usefixtures("host")
def test_an_openfeature_flag_that_fails_by_itself() -> None:
    """It has an error, and the others their values."""

    class Failing(Provider):
        def _resolve(self, flag_key: str, *rest: Any) -> Any:
            if flag_key == "rate":
                raise RuntimeError("a rule is broken")
            return super()._resolve(flag_key, *rest)

    install(provider=Failing({"on": True, "rate": 97}))
    reading = read(openfeature_source(), {"on": bool, "rate": int})
    assert ({"on": True}, {"rate": "GENERAL: a rule is broken"}) == (reading.values, reading.errors)


class Asked(Provider):
    """Notes which flags it is asked for."""

    def __init__(self, flags: Flags) -> None:
        super().__init__(flags)
        self.asked: list[str] = []

    def _resolve(self, flag_key: str, *rest: Any) -> Any:
        self.asked.append(flag_key)
        return super()._resolve(flag_key, *rest)

    def say(self, flags: Flags, *named: str) -> None:
        """The event of the change names these."""
        self._flags = storage(flags)
        self.asked.clear()
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=list(named) or None))


@pytest.mark.usefixtures("host")
def test_openfeature_asks_only_for_the_flags_that_an_event_names() -> None:
    """The others keep their values; an event that names none may mean any."""
    provider = Asked({"on": False, "rate": 97})
    install(provider=provider)
    wanted = {"on": bool, "rate": int}
    with opened(openfeature_source(poll_interval=Duration(60.0))) as heard:
        heard.read_until(wanted)

        def asked_for(on: bool) -> set[str]:
            provider.say({"on": on, "rate": 97}, "on", "another")
            reading = heard.read_until(wanted, lambda reading: reading.values["on"] is on)
            assert {"on": on, "rate": 97} == reading.values
            return set(provider.asked)

        # That the provider is ready is an event too, which may come late and is about all flags.
        assert any(asked_for(on) == {"on"} for on in (True, False, True, False))
        provider.say({"on": True, "rate": 98})
        heard.read_until(wanted, lambda reading: reading.values["rate"] == 98)
        assert {"on", "rate"} == set(provider.asked)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("named", ["rate", 5, [["rate"]], [None], {"rate": 1}])
def test_openfeature_event_that_names_flags_in_no_known_way_is_about_all(named: Any) -> None:
    """A provider may tell anything; the change is heard of at once all the same."""
    provider = Provider({"on": False})
    install(provider=provider)
    with opened(openfeature_source(poll_interval=Duration(60.0))) as heard:
        heard.read_until({"on": bool})
        provider._flags = storage({"on": True})
        provider.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=named))
        heard.read_until({"on": bool}, lambda reading: reading.values["on"] is True)


@pytest.mark.usefixtures("host")
def test_openfeature_flags_that_events_forget_are_asked_for_once_a_poll_interval() -> None:
    """However many events name other flags meanwhile."""
    provider = Asked({"on": False, "rate": 97})
    install(provider=provider)
    wanted = {"on": bool, "rate": int}
    with opened(openfeature_source(poll_interval=Duration(0.3))) as heard:
        heard.read_until(wanted)
        said = 0

        def comes(reading: Reading) -> bool:
            nonlocal said
            said += 1
            provider.say({"on": bool(said % 2), "rate": 98}, "on")
            return reading.values["rate"] == 98

        heard.read_until(wanted, comes)
        assert said > 1


OPENFEATURE = {"kind": "openfeature", "start_wait": "1s"}
OPENFEATURE_OF_OURS = {**OPENFEATURE, "provider": f"{HOST}:provider"}


@pytest.mark.usefixtures("host")
def test_openfeature_without_a_provider(govern: Any) -> None:
    """It is told after `start_wait`, not before; once the application sets one it is on."""
    began = time.time()
    with govern(OPENFEATURE) as it:
        it.until(lambda _: it.complaints())
        assert ["the application has set no OpenFeature provider"] == it.complaints()
        assert it.events("source_unavailable")[0].created - began >= 1.0
        api.set_provider(Provider(SAID))
        it.until_runs(rate=97)
        assert [] == it.others_lines()


@pytest.mark.usefixtures("host")
def test_openfeature_provider_that_the_application_has_not_made_yet(govern: Any) -> None:
    """Until its module is imported the source waits, and tells after `start_wait`."""
    with govern(OPENFEATURE_OF_OURS) as it:
        it.until(lambda _: it.complaints())
        assert [f"{HOST}:provider: the application has not imported {HOST} yet"] == it.complaints()
        install(provider=Provider(SAID))
        it.until_runs(rate=97)


@pytest.mark.usefixtures("host")
@pytest.mark.newest
def test_openfeature_provider_that_fails_to_initialise(govern: Any) -> None:
    """It is off and tells why; once the provider is ready it is on."""
    provider = Provider(SAID)
    provider.failure = RuntimeError("no route")
    install(provider=provider)
    with govern(OPENFEATURE_OF_OURS) as it:
        status = it.until(lambda status: "no route" in status.source.reason)
        assert "in state ERROR" in status.source.reason
        assert State.STOPPED is status.state
        provider.failure = None
        provider.emit_provider_ready(ProviderEventDetails())
        it.until_runs(rate=97)
        assert 1 == len(set(it.complaints())) == len(it.complaints())
        assert [] == it.others_lines()


@pytest.mark.usefixtures("host")
@pytest.mark.newest
def test_openfeature_provider_that_hangs_when_initialised(govern: Any) -> None:
    """Nothing else hangs; it is told after `start_wait`, and on once the provider is ready."""
    provider = Provider(SAID)
    provider.working.clear()
    install(provider=provider)
    with govern(OPENFEATURE_OF_OURS) as it:
        it.until(lambda _: it.complaints())
        assert ["provider In-Memory Provider is not ready"] == it.complaints()
        provider.working.set()
        it.until_runs(rate=97)
        assert [] == it.others_lines()


@pytest.mark.usefixtures("host")
def test_openfeature_leaves_nothing_behind(govern: Any) -> None:
    """After a source with a provider of its own, one without follows what the application has set."""
    install(provider=Provider(SAID))
    with govern(OPENFEATURE_OF_OURS) as it:
        it.until_runs(rate=97)
    api.set_provider(Provider(FLIPPED))
    with govern(OPENFEATURE) as it:
        it.until_runs(rate=50)


class Lingering(Provider):
    """Has a thread that outlives the source, and has something to say in the end."""

    def __init__(self) -> None:
        super().__init__(SAID)
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._linger, name="lingering", daemon=True)

    def initialize(self, evaluation_context: object) -> None:
        self.thread.start()

    def _linger(self) -> None:
        self.is_over.wait(PATIENCE)
        logging.getLogger("openfeature.contrib").warning("the link is down")


@pytest.mark.usefixtures("host")
def test_openfeature_providers_last_words(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """They are kept out of the application's log as all others were, and then nothing is kept out any more."""
    monkeypatch.setattr("rheostat_flagsources.openfeature._LAST_WORDS", PATIENCE)
    before = set(threading.enumerate())
    provider = Lingering()
    install(provider=provider)
    with opened(openfeature_source()) as heard:
        heard.read_until({"rate": int})
    provider.is_over.set()
    provider.thread.join(PATIENCE)
    await_end_of(before)
    assert [] == caplog.messages
    logging.getLogger("openfeature.contrib").warning("heard again")
    assert ["heard again"] == caplog.messages


# What is waited for


class SlowImport:
    """Holds up the import of what a source needs, as a process does whose main thread computes."""

    def __init__(self, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self._import = import_vendor
        monkeypatch.setattr(import_module(module), "import_vendor", self)

    def __call__(self, name: str, requirement: str) -> Any:
        self.began.set()
        assert self.may_end.wait(PATIENCE)
        return self._import(name, requirement)


def until_unavailable(source: FlagSource) -> str:
    """The first complaint, when it is no longer only beginning."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            source.read({"on": bool})
        except SourceUnavailable as unavailable:
            if not isinstance(unavailable, NotReady):
                return unavailable.reason
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("module", "make", "expected"),
    [
        ("growthbook.feed", lambda url: slow_growthbook(url), "growthbook is still being imported"),
        ("openfeature", lambda _: openfeature_source(start_wait=SHORT), "openfeature is still being imported"),
    ],
)
def test_an_import_that_takes_long_is_not_blamed_on_the_product(
    module: str, make: Callable[[str], FlagSource], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody has been asked, the complaint is of the import."""
    slow = SlowImport(f"rheostat_flagsources.{module}", monkeypatch)
    with GrowthBookServer() as server, opened(source := make(server.url)):
        assert expected == until_unavailable(source)
        assert [] == server.requests
        slow.may_end.set()


def test_patience_with_a_product_begins_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """LaunchDarkly, which has not answered yet, is not complained of because the import took long."""
    slow = SlowImport("rheostat_flagsources.launchdarkly", monkeypatch)
    with LaunchDarklyServer() as server:
        server.fault = Fault.HANG
        options = LaunchDarklyOptions(sdk_key=Secret(server.sdk_key), relay=Url(server.url), start_wait=SHORT)
        source = LaunchDarklySource(options, identity())
        with opened(source):
            opened_at = time.monotonic()
            threading.Timer(2 * SHORT, slow.may_end.set).start()
            with pytest.raises(NotReady):
                source.read({"on": bool})
            assert time.monotonic() - opened_at > SHORT
            assert f"{server.url}: no answer yet" == until_unavailable(source)


SHORT = Duration(0.2)


def slow_growthbook(url: str) -> GrowthBookSource:
    return GrowthBookSource(GrowthBookOptions(client_key=Secret("key"), api_host=Url(url), timeout=SHORT), identity())


def test_a_server_that_takes_no_connection_is_not_said_to_be_silent() -> None:
    """A full backlog lets a connection hang: no answer could be waited for."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listening.getsockname()
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        source = slow_growthbook(url)
        stack.enter_context(opened(source))
        assert f"{url}: no connection within 0.2 s" == until_said(source, "connection")


def until_said(source: FlagSource, word: str) -> str:
    """The first complaint with this word."""
    deadline = time.monotonic() + PATIENCE
    while word not in (reason := until_unavailable(source)):
        assert time.monotonic() < deadline, reason
    return reason


# What a plan says


@pytest.mark.newest
@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("launchdarkly", "401", "HTTP 401: is sdk_key right?"),
        ("launchdarkly", "hang", "no answer yet"),
        ("launchdarkly", "malformed", "error in flag/segment data"),
        ("growthbook", "hang", "no answer"),
        ("growthbook-encrypted", "encrypted wrong", "cannot be decrypted"),
        ("growthbook", "malformed", "malformed feature"),
        ("openfeature-flagd", "garbage", "is not ready|in state ERROR"),
        ("openfeature-remote", "503", "HTTP Error 503"),
        ("openfeature-host", "error", "in state ERROR"),
        ("openfeature-host", "malformed", "TYPE_MISMATCH"),
    ],
)
def test_a_plan_says_what_is_wrong(
    name: str, fault: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of the log, with what it comes to, and a finding as the exit code."""
    before = set(threading.enumerate())
    with PRODUCTS[name](tmp_path) as product:
        product.say(SAID)
        product.break_(fault)
        path = tmp_path / "config.yaml"
        document = {
            "version": 1,
            "application": "shop",
            "source": product.section() | ({"start_wait": "1s"} if name == "launchdarkly" else {}),
            "backend": {"kind": "noop"},
            "enabled": ENABLED,
            "settings": SETTINGS,
        }
        path.write_text(json.dumps(document))
        code = main(["plan", str(path)])
        # A client that waits for an answer would wait on.
        product.mend()
        await_end_of(before)
        collect()
    said = capsys.readouterr()
    assert re.search(expected, said.out + said.err), said
    assert FINDING == code
    assert "It would" in said.out


# Layers


class TwoFiles:
    """Two layers, which are files."""

    def __init__(self, folder: Path) -> None:
        self.upper, self.lower = Override(folder), Fallback(folder)

    def section(self, **upper: object) -> dict[str, object]:
        """The upper one has to be there, unless `upper` says otherwise."""
        return {
            "kind": "layers",
            "layers": [{**self.upper.section(), "optional": False, **upper}, self.lower.section()],
        }


@pytest.fixture
def two(tmp_path: Path) -> TwoFiles:
    return TwoFiles(tmp_path)


def test_the_first_layer_that_defines_a_flag_wins(two: TwoFiles, govern: Any) -> None:
    """Flag by flag; and the plan says which layer it was."""
    two.upper.say({"rate": 97})
    two.lower.say({"on": True, "rate": 5, "mode": "cpu"})
    with govern(two.section()) as it:
        assert {"rate": 97, "mode": "cpu"} == it.until_runs().settings


def test_reasons_name_the_layer(two: TwoFiles, govern: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of `plan` says of each flag which layer it is from."""
    two.upper.say({"rate": 97})
    two.lower.say({"on": True, "rate": 5, "mode": "cpu"})
    with govern(two.section()) as it:
        it.until_runs()
    assert 0 == main(["plan", str(tmp_path / "config.yaml")])
    lines = capsys.readouterr().out.splitlines()
    assert ["layer 2 (yaml): line 1", "layer 1 (yaml): line 1", "layer 2 (yaml): line 1"] == [
        next(line for line in lines if line.startswith(name))[-22:] for name in ("enabled", "rate", "mode")
    ]


def test_an_override_comes_and_goes(two: TwoFiles, govern: Any) -> None:
    """An optional file need not be there, and nobody complains when it is not."""
    two.lower.say({"on": True, "rate": 5, "mode": "cpu"})
    with govern(two.section(optional=True)) as it:
        it.until_runs(rate=5)
        two.upper.say({"rate": 97})
        it.until_runs(rate=97, mode="cpu")
        two.upper.path.unlink()
        it.until_runs(rate=5)
        two.upper.say({"on": False})
        it.until(lambda status: status.state is State.STOPPED)
        assert [] == it.complaints()


def test_a_layer_that_falls_silent_is_passed_over_after_the_lease(two: TwoFiles, govern: Any) -> None:
    """Until then its last values hold."""
    two.upper.say({"rate": 97})
    two.lower.say({"on": True, "rate": 5})
    with govern(two.section()) as it:
        it.until_runs(rate=97)
        two.upper.break_("missing")
        status = it.until(lambda status: not status.source.available)
        assert status.source.reason.startswith(f"layer 1 (yaml): {two.upper.path}")
        two.lower.say({"on": True, "rate": 5, "mode": "cpu"})
        it.until_runs(rate=97, mode="cpu")
        it.pass_(LEASE + 1)
        it.until_runs(rate=5)
        two.upper.say({"rate": 50})
        it.until_runs(rate=50)


def test_all_layers_silent(two: TwoFiles, govern: Any) -> None:
    """After the lease it is off, and the reason names each of them."""
    two.upper.say({"rate": 97})
    two.lower.say({"on": True})
    with govern(two.section()) as it:
        it.until_runs(rate=97)
        two.upper.break_("missing")
        two.lower.break_("missing")
        it.until(lambda status: "layer 1" in status.source.reason and "layer 2" in status.source.reason)
        it.pass_(LEASE + 1)
        gone = it.until(lambda status: status.state is State.STOPPED).last_transition
        assert gone is not None
        assert "lease" == gone.cause.kind


def test_a_layer_that_never_answered_is_passed_over(two: TwoFiles, govern: Any) -> None:
    """Others need not wait for it."""
    two.lower.say({"on": True, "rate": 5})
    with govern(two.section()) as it:
        status = it.until_runs(rate=5)
        assert "layer 1 (yaml)" in status.source.reason
        two.upper.say({"rate": 97})
        it.until_runs(rate=97)


def test_off_if_only_a_layer_that_never_answered_could_say_on(two: TwoFiles, govern: Any) -> None:
    """The default of `enabled` is for a flag that is known not to exist."""
    two.lower.say({"rate": 5})
    with govern(two.section(), enabled={"flag": "on", "default": True}) as it:
        it.until(lambda status: "layer 1 (yaml)" in status.source.reason)
        assert (State.STOPPED, 0) == (it.status.state, it.status.seq)
        two.upper.say({"rate": 97})
        it.until_runs(rate=97)


def test_a_layer_that_cannot_be_built_is_passed_over(two: TwoFiles, govern: Any) -> None:
    """Others need not wait for it, and it says why."""
    two.lower.say(SAID)
    section = {"kind": "layers", "layers": [{"kind": "support.products:Unbuildable"}, two.lower.section()]}
    with govern(section) as it:
        status = it.until_runs(rate=97)
        reason = "layer 1 (support.products:Unbuildable): it could not be built: RuntimeError: out of order"
        assert reason == status.source.reason
        assert 1 == len(it.complaints())
        two.lower.say(FLIPPED)
        it.until_runs(rate=50)


def test_an_error_in_an_upper_layer_is_not_hidden(two: TwoFiles, govern: Any) -> None:
    """A flag that cannot be used follows its rule, though a lower layer has a good one."""
    two.upper.write(b"rate: []")
    two.lower.say({"on": True, "rate": 5, "mode": "cpu"})
    with govern(two.section()) as it:
        status = it.until_runs(rate=20, mode="cpu")
        (adjustment,) = status.adjustments
        assert "rate" == adjustment.setting
        assert "layer 1 (yaml): " in adjustment.rule
