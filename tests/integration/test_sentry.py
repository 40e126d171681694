"""The Sentry backend: the real SDK, whose client sends to an ingest on loopback."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import pytest

from rheostat.plugins import Identity, PermanentError, TemporaryError, Value
from rheostat.testing import BackendContract
from rheostat_backends.sentry import SentryBackend, SentryOptions
from support.children import PATIENCE, RHEOSTAT, Child, ended
from support.pages import DOCS, command, unpack
from support.vendors.sentry import SentryIngest

HOST = "support.sentry_host"
PAGE = DOCS / "backends/sentry.md"

OFTEN: Mapping[str, Value] = {"upload_interval": 1}


def profiling_threads() -> list[threading.Thread]:
    """Those that are within the SDK's loop of sampling."""
    within = {thread for thread, frame in sys._current_frames().items() if _is_sampling(frame)}
    return [each for each in threading.enumerate() if each.ident in within]


def _is_sampling(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_code.co_filename.endswith("continuous_profiler.py"):
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def ingest(monkeypatch: pytest.MonkeyPatch) -> Iterator[SentryIngest]:
    with SentryIngest() as opened:
        monkeypatch.setenv("SENTRY_DSN", opened.dsn)
        yield opened


@pytest.fixture
def host(ingest: SentryIngest) -> Iterator[Any]:
    """The application, which has just called init."""
    module = import_module(HOST)
    module.forget()
    module.call_init()
    yield module
    module.forget()


class TestSentry(BackendContract):
    """The real SDK; a lifecycle in which it cannot be started by hand is in the way."""

    imports: ClassVar[tuple[str, ...]] = (HOST,)

    @pytest.fixture(autouse=True)
    def application(self, host: Any) -> None:
        self.host = host

    def section(self) -> str:
        return "{kind: sentry}"

    def is_profiling(self) -> bool:
        return bool(profiling_threads())

    def break_down(self) -> None:
        self.host.forget()
        self.host.call_init(profile_lifecycle="trace")

    def mend(self) -> None:
        self.host.forget()
        self.host.call_init()


def backend() -> SentryBackend:
    return SentryBackend(SentryOptions(), Identity("shop", "host-1", {}, os.getpid()))


@contextmanager
def session(made: SentryBackend, **settings: Value) -> Iterator[None]:
    made.start({**OFTEN, **settings})
    try:
        yield
    finally:
        made.stop()


def spin_in_here(until: threading.Event) -> None:
    while not until.wait(0.001):
        sum(range(20_000))


@contextmanager
def at_work() -> Iterator[None]:
    done = threading.Event()
    thread = threading.Thread(target=spin_in_here, args=(done,), name="at-work")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# What arrives


def test_chunks_arrive_while_it_runs_and_none_of_what_comes_after(host: Any, ingest: SentryIngest) -> None:
    """Each upload interval has one, with what the threads did, and the application's release and environment."""
    host.forget()
    host.call_init(release="shop@1.2", environment="canary")
    made = backend()
    with at_work():
        with session(made):
            ingest.wait_for(lambda: len(ingest.chunks) == 2)
        over = time.time()
        host.sentry_sdk.flush(PATIENCE)
    chunks = ingest.chunks
    times = [[sample["timestamp"] for sample in each.content["profile"]["samples"]] for each in chunks]
    assert [3, 1] == [len(chunks), len({each.session for each in chunks})]
    assert all(max(each) - min(each) < 1.5 for each in times[:2])
    assert max(map(max, times)) <= over
    assert {"spin_in_here"} <= chunks[0].functions
    assert {"at-work", "MainThread"} <= chunks[0].threads
    assert {("shop@1.2", "canary")} == {(each.content["release"], each.content["environment"]) for each in chunks}


def test_thirty_restarts_are_thirty_sessions(host: Any, ingest: SentryIngest) -> None:
    """A start right after a stop is a session of its own, and each delivers what it had at its end."""
    made = backend()
    for _ in range(30):
        with session(made):
            assert 1 == len(profiling_threads())
        assert [] == profiling_threads()
    host.sentry_sdk.flush(PATIENCE)
    assert 30 == len({each.session for each in ingest.chunks})


def test_its_thread_is_no_reason_for_a_warning_at_a_fork(host: Any) -> None:
    """It has a name by which Rheostat knows that it is its own."""
    with session(backend()):
        assert ["rheostat-sentry"] == [each.name for each in profiling_threads()]


# What start_profiler would pass over in silence

IN_THE_WAY = [
    ({"profile_lifecycle": "trace"}, "profile_lifecycle='trace'.*expected 'manual'"),
    ({"profile_session_sample_rate": None}, "does not let it profile; expected profile_session_sample_rate=1.0"),
    ({"profile_session_sample_rate": 1e-12}, "drawn lots once for all, and not this process; expected 1.0"),
    ({"profiles_sample_rate": 0.5}, "profiles_sample_rate or profiles_sampler, beside which"),
    ({"profiles_sampler": lambda _: 1.0}, "profiles_sample_rate or profiles_sampler, beside which"),
    ({"profiler_mode": "sleep"}, "without profiler_mode"),
    ({"dsn": ""}, "has no DSN, or is closed"),
]


@pytest.mark.parametrize(("options", "expected"), IN_THE_WAY, ids=[str(*each) for each, _ in IN_THE_WAY])
def test_options_of_the_application_that_do_not_let_it_profile_are_told(
    host: Any, options: Mapping[str, Any], expected: str
) -> None:
    """A start is refused for good, with the option and what it has to be."""
    host.forget()
    host.call_init(**options)
    with pytest.raises(PermanentError, match=expected):
        backend().start({})
    assert [] == profiling_threads()


@pytest.mark.newest
def test_a_client_that_was_made_after_init_is_told(host: Any) -> None:
    """A library's own takes the profiler with it, and profiles would go to wherever that one sends."""
    other = host.sentry_sdk.Client(default_integrations=False)
    with pytest.raises(PermanentError, match=r"another sentry_sdk\.Client"):
        backend().start({})
    other.close()


def test_before_init_a_start_may_be_tried_again(host: Any) -> None:
    """Once the application has called it, the same object starts."""
    host.forget()
    made = backend()
    with pytest.raises(TemporaryError, match=r"has not called sentry_sdk.init\(\.\.\.\) yet"):
        made.start({})
    host.call_init()
    with session(made):
        assert profiling_threads()


BUILD = """\
import sys
from rheostat.plugins import BackendError, Identity
from rheostat_backends.sentry import SentryBackend as Backend
made = Backend(Backend.Options(), Identity("shop", "host", {}, 1))
"""
TRY = """\
try:
    made.start({})
except BackendError as error:
    print(type(error).__name__, error, sys.modules.get("sentry_sdk"))
"""


def test_it_never_imports_the_sdk(tmp_path: Path) -> None:
    """An application that has not done so cannot have called init."""
    ran = ended([sys.executable, "-c", BUILD + TRY], tmp_path)
    assert "TemporaryError the application has not called sentry_sdk.init(...) yet None\n" == ran.stdout


def test_a_missing_sdk_says_what_to_install(tmp_path: Path) -> None:
    """Without the package, start is a permanent error with the exact command."""
    ran = ended([sys.executable, "-c", f"{BUILD}sys.modules['sentry_sdk'] = None\n{TRY}"], tmp_path)
    assert "PermanentError the package 'sentry_sdk' is not installed: pip install 'rheostat[sentry]'" in ran.stdout


GREEN = {
    "gevent": "from gevent import monkey; monkey.patch_all()\n",
    "eventlet": "import warnings; warnings.simplefilter('ignore')\nimport eventlet; eventlet.monkey_patch()\n",
}


@pytest.mark.parametrize(("library", "expected"), [("gevent", "leaves a native thread"), ("eventlet", "only itself")])
def test_among_green_threads_it_is_refused(tmp_path: Path, library: str, expected: str) -> None:
    """With what the SDK's profiler would do there."""
    ran = ended([sys.executable, "-c", GREEN[library] + BUILD + TRY], tmp_path)
    assert ran.stdout.startswith(f"PermanentError under {library} ")
    assert expected in ran.stdout


# The application's own part


def test_a_session_of_the_applications_own_is_left_alone(host: Any) -> None:
    """It runs on, whatever is called; once it has ended, the same object starts."""
    made = backend()
    host.continuous_profiler.start_profiler()
    (theirs,) = profiling_threads()
    with pytest.raises(TemporaryError, match="the application runs a session of Sentry's profiler itself"):
        made.start({})
    made.stop()
    assert [theirs] == profiling_threads()
    host.continuous_profiler.stop_profiler()
    with session(made):
        assert profiling_threads()


def test_a_session_that_the_application_ended_is_found_out(host: Any) -> None:
    """So is one that it has put its own in the place of, which is left alone."""
    made = backend()
    made.start({})
    assert "healthy" == made.probe().status
    host.continuous_profiler.stop_profiler()
    assert "failed" == made.probe().status
    host.continuous_profiler.start_profiler()
    assert "failed" == made.probe().status
    made.stop()
    assert profiling_threads()


@pytest.mark.newest
def test_another_init_is_found_out(host: Any) -> None:
    """It ends the session with the client that it was of, and another can start with the new one."""
    made = backend()
    made.start({})
    host.call_init()
    assert "failed" == made.probe().status
    made.stop()
    with session(made):
        assert "healthy" == made.probe().status


def test_a_closed_client_is_found_out(host: Any) -> None:
    """Its chunks would go nowhere."""
    made = backend()
    with session(made):
        host.sentry_sdk.get_client().close()
        assert ("failed", True) == (made.probe().status, "go nowhere" in made.probe().detail)


def test_a_quota_that_is_used_up_is_said_once(
    host: Any, ingest: SentryIngest, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK is told to send no chunks, and drops them in silence."""
    caplog.set_level(logging.INFO, "rheostat.sentry")
    made = backend()
    with session(made):
        ingest.limit(60)
        ingest.wait_for(lambda: ingest.refused)
        deadline = time.monotonic() + PATIENCE
        while made.probe().detail == "its thread samples":
            assert time.monotonic() < deadline, "the SDK has not heard of it"
            time.sleep(0.01)
        assert "healthy" == made.probe().status
        host.sentry_sdk.get_client().transport._disabled_until.clear()
        assert "its thread samples" == made.probe().detail
    said = [each.getMessage() for each in caplog.records if each.name == "rheostat.sentry"]
    assert ["Sentry takes no profiles for now", "Sentry takes profiles again"] == [each.split(",")[0] for each in said]


# By flags, in a process of its own

CONFIG = """\
version: 1
application: shop
source: {kind: yaml, path: flags.yaml, poll_interval: 50ms}
backend: {kind: sentry}
enabled: {flag: profiling_enabled, default: false}
settings:
  sample_rate: {flag: profiling_sample_rate, default: 20, clamp: {max: 250}}
  mode: {flag: profiling_mode, default: gil, clamp: {choices: [gil, cpu, wall]}}
  upload_interval: 1
policy: {start_after: 50ms, cooldown: 0s, backoff: {initial: 100ms}}
"""

APP = """\
import sys
import threading
import warnings


def burn_in_here():
    while True:
        sum(range(20_000))
        threading.Event().wait(0.001)


threading.Thread(target=burn_in_here, daemon=True).start()
for line in sys.stdin:
    warnings.simplefilter("ignore")
    import sentry_sdk

    sentry_sdk.init(profile_session_sample_rate=1.0, **eval(line))
"""


def switch(folder: Path, **flags: object) -> None:
    (folder / "flags.yaml").write_text("".join(f"{name}: {str(value).lower()}\n" for name, value in flags.items()))


@contextmanager
def governed(folder: Path, ingest: SentryIngest) -> Iterator[Child]:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "app.py").write_text(APP)
    switch(folder, profiling_enabled=True, profiling_sample_rate=100, profiling_mode="cpu")
    run = [*RHEOSTAT, "run", "--config", "config.yaml", "--log", "json", "--", sys.executable, "app.py"]
    with Child(run, folder, {"SENTRY_DSN": ingest.dsn}) as child:
        yield child


def test_flags_start_and_stop_it_once_the_application_has_called_init(tmp_path: Path, ingest: SentryIngest) -> None:
    """Until then it is tried again; each flip after it is a session, whose chunks arrive to its last."""
    with governed(tmp_path, ingest) as child:
        assert "has not called sentry_sdk.init(...) yet" in child.event("start_failed")["message"]
        child.tell("{}")
        child.event("transition", to="running")
        ingest.wait_for(lambda: any("burn_in_here" in each.functions for each in ingest.chunks))
        switch(tmp_path, profiling_enabled=False)
        child.event("transition", to="stopped")
        ingest.wait_for(lambda: len(ingest.chunks) >= 2)
        switch(tmp_path, profiling_enabled=True, profiling_sample_rate=50, profiling_mode="wall")
        child.event("transition", to="running", trigger="started")
        ingest.wait_for(lambda: len({each.session for each in ingest.chunks}) == 2)
        assert 0 == child.finish()
    happened = [(each["trigger"], each["to"]) for each in child.events() if each["event"] == "transition"]
    assert [("started", "running"), ("stopped", "stopped")] * 2 == happened
    assert {("python", "2")} == {(each.content["platform"], each.content["version"]) for each in ingest.chunks}


def test_an_ingest_that_hangs_does_not_hold_up_the_exit(tmp_path: Path, ingest: SentryIngest) -> None:
    """The last chunk is handed over, and nobody but the SDK, by its own shutdown_timeout, waits for it to be sent."""
    with governed(tmp_path, ingest) as child:
        child.tell("{'shutdown_timeout': 0}")
        child.event("transition", to="running")
        ingest.hang()
        ingest.wait_for(lambda: ingest.refused)
        began = time.monotonic()
        assert 0 == child.finish()
        assert time.monotonic() - began < 1.5


def test_plan_and_check_say_what_the_page_says(tmp_path: Path) -> None:
    """What has no effect, and what it costs, before it is turned on; nothing is sent to find that out."""
    unpack(PAGE, tmp_path)
    plan, check = command(PAGE, "rheostat plan"), command(PAGE, "rheostat check")
    assert plan.output == ended(plan.command, tmp_path).stdout
    assert check.output == ended(check.command, tmp_path).stdout.replace(str(tmp_path), "/home/you/checkout")


def test_plan_says_of_a_budget_that_no_session_keeps(tmp_path: Path) -> None:
    """There is no rate that could be lowered: it would pause most of the time."""
    (tmp_path / "config.yaml").write_text(CONFIG.replace("policy: {", "policy: {budget: {cpu: 1%}, "))
    switch(tmp_path, profiling_enabled=True)
    planned = ended([*RHEOSTAT, "plan", "config.yaml"], tmp_path).stdout
    assert "The budget of 1 % of a core is less than a session costs (2.3 %" in planned
