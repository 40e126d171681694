"""The records that a vendor's package logs on Rheostat's behalf."""

import logging
import threading
from collections.abc import Iterator

import pytest

from rheostat.plugins import VendorLog

LOGGER = logging.getLogger("vendor.sdk")


@pytest.fixture
def log() -> Iterator[VendorLog]:
    made = VendorLog("vendor.sdk", ours=lambda thread: thread.name == "ours")
    made.attach()
    yield made
    made.detach()


def warn_in(name: str) -> None:
    thread = threading.Thread(target=LOGGER.warning, args=(f"from {name}",), name=name)
    thread.start()
    thread.join()


def test_only_what_is_said_on_our_behalf_is_kept_out(log: VendorLog, caplog: pytest.LogCaptureFixture) -> None:
    """Threads of the application's, and our own outside of a call, are heard."""
    LOGGER.warning("before")
    with log.speaking():
        LOGGER.warning("cannot connect")
        warn_in("the application's")
    warn_in("ours")
    LOGGER.warning("after")
    assert ["before", "from the application's", "after"] == caplog.messages


def test_the_last_warning_of_a_vendors_thread_is_remembered(log: VendorLog) -> None:
    """It may say nowhere else when it tries again, and what a call of ours meanwhile says is no news of it."""
    with log.speaking():
        warn_in("ours")
        LOGGER.warning("not connected yet")
    assert "from ours" == log.last_warning


def test_a_logger_set_to_debug_says_all(log: VendorLog, caplog: pytest.LogCaptureFixture) -> None:
    """Who looks for a fault in the vendor's package wants to see it."""
    with caplog.at_level(logging.DEBUG, "vendor.sdk"), log.speaking():
        LOGGER.warning("cannot connect")
    assert ["cannot connect"] == caplog.messages


def test_a_question_that_raises_lets_the_record_through(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked within a log call of somebody else's."""
    log = VendorLog("vendor.sdk", ours=lambda thread: thread.no_such_name)
    log.attach()
    try:
        LOGGER.warning("heard")
    finally:
        log.detach()
    assert ["heard"] == caplog.messages


def test_nothing_is_left_behind() -> None:
    """Neither a filter nor another level."""
    log = VendorLog("vendor.sdk")
    before = (LOGGER.level, list(LOGGER.filters), list(LOGGER.handlers))
    log.attach()
    log.detach()
    assert before == (LOGGER.level, LOGGER.filters, LOGGER.handlers)
