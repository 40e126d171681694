"""The backend that profiles nothing."""

import logging

import pytest

from rheostat.plugins import Backend, Identity
from rheostat_backends.noop import NoopBackend

IDENTITY = Identity("checkout", "web-1", {}, 1)


def test_it_is_a_backend() -> None:
    """It has what the contract asks for, and says that anything may be tuned."""
    assert isinstance(NoopBackend({}, IDENTITY), Backend)
    assert NoopBackend.parameters is None


def test_it_says_what_it_would_do_and_never_shows_options(caplog: pytest.LogCaptureFixture) -> None:
    """Each start and stop is one line with the settings; options, which may be secret, are not shown."""
    backend = NoopBackend({"auth_token": "hunter22"}, IDENTITY)
    with caplog.at_level(logging.INFO, "rheostat.noop"):
        backend.start({"sample_rate": 97, "mode": "gil"})
        backend.stop()
        backend.start({})
    assert [
        "would start profiling checkout with sample_rate=97, mode=gil",
        "would stop profiling checkout",
        "would start profiling checkout with the profiler's defaults",
    ] == caplog.messages
    assert "hunter22" not in caplog.text + repr(backend)


def test_stopping_without_a_session_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Stop may be called at any time, any number of times."""
    backend = NoopBackend({}, IDENTITY)
    with caplog.at_level(logging.INFO, "rheostat.noop"):
        backend.stop()
        backend.start({})
        backend.stop()
        backend.stop()
    assert 2 == len(caplog.records)
