"""The Pyroscope backend against the real agent, which pushes to a receiver on loopback."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyroscope
import pytest

from rheostat.plugins import Identity, PermanentError, Secret, TemporaryError, Url, Value
from rheostat.receive.receiver import Profile, Receiver
from rheostat_backends.pyroscope.backend import PyroscopeBackend, PyroscopeOptions
from support.children import PATIENCE, ended

FAST: Mapping[str, Value] = {"upload_interval": 1, "sample_rate": 100}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def backend(receiver: Receiver, *, of: Mapping[str, str] | None = None, **options: Any) -> PyroscopeBackend:
    made = PyroscopeOptions(server_address=Url(receiver.address), **options)
    return PyroscopeBackend(made, Identity("shop", "host-1", of or {}, os.getpid()))


@contextmanager
def session(made: PyroscopeBackend, **settings: Value) -> Iterator[None]:
    made.start({**FAST, **settings})
    try:
        yield
    finally:
        made.stop()


def sleep_in_here(until: threading.Event) -> None:
    until.wait()


def spin_in_here(until: threading.Event) -> None:
    while not until.is_set():
        sum(range(2000))


@contextmanager
def threads_at_work() -> Iterator[None]:
    """One thread that burns CPU, one that sleeps."""
    done = threading.Event()
    threads = [threading.Thread(target=work, args=(done,)) for work in (sleep_in_here, spin_in_here)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def functions(profiles: tuple[Profile, ...]) -> set[str]:
    return {name for profile in profiles for sample in profile.samples for name in sample.stack}


@pytest.mark.parametrize(("mode", "sees_sleepers"), [("gil", False), ("cpu", False), ("wall", True)])
def test_only_wall_mode_sees_a_thread_that_sleeps(receiver: Receiver, mode: str, sees_sleepers: bool) -> None:
    """In wall mode a sleeping thread is in the profile, in gil and cpu mode it is not."""
    with threads_at_work(), session(backend(receiver), mode=mode):
        receiver.wait_for(lambda profile: "spin_in_here" in functions((profile,)), PATIENCE)
    assert sees_sleepers == ("sleep_in_here" in functions(receiver.profiles()))


def test_a_profile_has_the_asked_rate_and_the_tags(receiver: Receiver) -> None:
    """Rate, application, identity's and own tags, and the mode arrive with the profile."""
    made = backend(receiver, of={"role": "api"}, tags={"zone": "b"})
    with threads_at_work(), session(made, sample_rate=250, mode="cpu"):
        profile = receiver.wait_for(lambda _: True, PATIENCE)
    assert 250 == round(profile.sample_rate or 0)
    expected = {"service_name": "shop", "instance": "host-1", "role": "api", "zone": "b", "profiling_mode": "cpu"}
    assert expected.items() <= profile.labels.items()
    assert "pid" not in profile.labels


def test_settings_that_are_not_given_have_the_backends_defaults(receiver: Receiver) -> None:
    """Without settings it samples at 20 Hz in gil mode, and the last window is flushed by stop."""
    made = backend(receiver)
    made.start({})
    until = time.thread_time() + 0.5
    while time.thread_time() < until:
        sum(range(2000))
    made.stop()
    [profile] = receiver.profiles()
    assert (20, "gil") == (round(profile.sample_rate or 0), profile.labels["profiling_mode"])


def test_memory_profiles_arrive(receiver: Receiver) -> None:
    """With mem_enabled, what was allocated is pushed as a memory profile with the asked sampling size."""
    kept = []
    with session(backend(receiver), mem_enabled=True, mem_heap_sample_size=65536):
        kept.append(bytearray(8 * 2**20))
        memory = receiver.wait_for(lambda profile: profile.labels["__name__"] == "memory", PATIENCE)
    assert "alloc_space/bytes" in memory.sample_types
    assert 65536 == memory.period_ns or memory.sample_rate is None


def test_credentials_tenant_and_headers_are_sent(receiver: Receiver) -> None:
    """A token becomes a bearer header, the tenant X-Scope-OrgID, and own headers are added."""
    made = backend(receiver, auth_token=Secret("t0ken"), tenant_id="team-a", http_headers={"X-Team": Secret("blue")})
    with threads_at_work(), session(made):
        profile = receiver.wait_for(lambda _: True, PATIENCE)
    expected = {"authorization": "Bearer t0ken", "x-scope-orgid": "team-a", "x-team": "blue"}
    assert expected.items() <= dict(profile.headers).items()


def test_basic_auth_is_sent(receiver: Receiver) -> None:
    """User and password become a basic authorization."""
    made = backend(receiver, basic_auth_username="ann", basic_auth_password=Secret("secret"))
    with threads_at_work(), session(made):
        profile = receiver.wait_for(lambda _: True, PATIENCE)
    assert "Basic YW5uOnNlY3JldA==" == profile.headers["authorization"]


def test_a_refused_start_is_a_failure(receiver: Receiver) -> None:
    """The agent answers False while another session runs: that is a temporary error, and the other runs on."""
    with session(backend(receiver)), pytest.raises(TemporaryError, match="refused to start"):
        backend(receiver).start({})


def test_stopping_a_session_that_somebody_else_ended_is_fine(receiver: Receiver) -> None:
    """The agent says that there is none, which is what was wanted; another can start."""
    made = backend(receiver)
    made.start(FAST)
    assert pyroscope.shutdown()
    made.stop()
    with session(made):
        pass


def test_stopping_without_a_session_does_nothing(receiver: Receiver) -> None:
    """Stop is idempotent."""
    made = backend(receiver)
    made.stop()
    made.start(FAST)
    made.stop()
    made.stop()


@pytest.mark.parametrize("settings", [{"sample_rate": 10**12}, {"sample_rate": "fast"}, {"mem_enabled": 3}])
def test_arguments_that_the_agent_cannot_take_are_a_permanent_error(
    receiver: Receiver, settings: Mapping[str, Value]
) -> None:
    """Settings past every limit are refused for good, in the agent's own words, and nothing is left running."""
    with pytest.raises(PermanentError, match="refused its arguments"):
        backend(receiver).start(settings)
    with session(backend(receiver)):
        pass


def test_the_agents_logging_stays_off(receiver: Receiver) -> None:
    """Nothing is set in the environment that children would inherit."""
    with session(backend(receiver)):
        assert "RUST_LOG" not in Path("/proc/self/environ").read_text()
        assert "RUST_LOG" not in os.environ


def test_the_agent_is_imported_at_the_first_start(tmp_path: Path) -> None:
    """Importing and building the backend, and stopping it, leave the agent alone."""
    code = (
        "import sys\n"
        "from rheostat.plugins import Identity\n"
        "from rheostat_backends.pyroscope.backend import PyroscopeBackend as Backend\n"
        "made = Backend(Backend.Options(), Identity('shop', 'host', {}, 1))\n"
        "made.stop()\n"
        "print('pyroscope' in sys.modules)\n"
    )
    assert "False\n" == ended([sys.executable, "-c", code], tmp_path).stdout


def test_a_missing_agent_says_what_to_install(tmp_path: Path) -> None:
    """Without the package, start is a permanent error with the exact command."""
    code = (
        "import sys\n"
        "sys.modules['pyroscope'] = None\n"
        "from rheostat.plugins import Identity, PermanentError\n"
        "from rheostat_backends.pyroscope.backend import PyroscopeBackend as Backend\n"
        "try:\n"
        "    Backend(Backend.Options(), Identity('shop', 'host', {}, 1)).start({})\n"
        "except PermanentError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'rheostat[pyroscope]'" in ended([sys.executable, "-c", code], tmp_path).stdout
