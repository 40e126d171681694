"""The log: where records go, how often, and which are never written."""

import json
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import pytest

from rheostat import Adjustment, Cause, Event, State, Transition, Trigger
from rheostat._contract.text import describe
from rheostat._report.journal import Journal
from rheostat._report.sinks import Format, LoggerSink, StderrSink

MADE = Transition(
    seq=7,
    from_state=State.RESTARTING,
    to_state=State.RUNNING,
    trigger=Trigger.STARTED,
    cause=Cause("flag", "rate", 20, 97),
    settings={"sample_rate": 97},
    adjustments=(Adjustment("mode", None, "gil", "not a text; otherwise the default"),),
    duration_ms=23.5,
)


class Memory:
    """A sink that keeps what was written."""

    def __init__(self) -> None:
        self.records: list[tuple[int, str, str, Mapping[str, Any]]] = []

    def write(self, level: int, event: str, message: str, fields: Mapping[str, Any]) -> None:
        self.records.append((level, event, message, fields))

    @property
    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.records]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(memory: Memory, clock: Clock) -> Journal:
    return Journal(memory, clock, ["hunter22", "abc"])


def test_a_transition_is_one_record_with_all_its_fields(journal: Journal, memory: Memory) -> None:
    """The fields are those that the documentation names, as plain data."""
    journal.transition(MADE)
    [(level, event, message, fields)] = memory.records
    assert (logging.INFO, "transition") == (level, event)
    assert "restarting -> running (24 ms): rate 20 -> 97; sample_rate=97" == message
    expected = {
        "seq": 7,
        "from": "restarting",
        "to": "running",
        "trigger": "started",
        "cause": {"kind": "flag", "flag": "rate", "old": 20, "new": 97, "detail": ""},
        "settings": {"sample_rate": 97},
        "adjustments": [
            {"setting": "mode", "asked": None, "given": "gil", "rule": "not a text; otherwise the default"}
        ],
        "duration_ms": 23.5,
    }
    assert expected == fields


def test_a_setting_commands_no_terminal(journal: Journal, memory: Memory) -> None:
    """A text that a flag says is shown escaped, in one line, while the fields have it as it is."""
    nasty = "\x1b[31mred\nINFO rheostat: all is well\u202e"
    journal.transition(MADE._replace(settings={"mode": nasty}))
    [(_, _, message, fields)] = memory.records
    assert message.isprintable()
    assert {"mode": nasty} == fields["settings"]


def test_the_hosts_logging_gets_the_fields_as_extra(caplog: pytest.LogCaptureFixture) -> None:
    """Under the logger `rheostat` each field is an attribute of the record, with a prefix of ours."""
    with caplog.at_level(logging.INFO, "rheostat"):
        Journal(LoggerSink(), Clock()).transition(MADE)
    [record] = caplog.records
    extra = {name: value for name, value in vars(record).items() if name.startswith("rheostat_")}
    assert ("rheostat", "INFO") == (record.name, record.levelname)
    assert ("transition", 7, "restarting", "running") == tuple(
        extra[f"rheostat_{name}"] for name in ("event", "seq", "from", "to")
    )
    assert {"rheostat_trigger", "rheostat_cause", "rheostat_settings", "rheostat_adjustments"} < extra.keys()


def test_json_on_stderr_is_one_object_on_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A line of JSON has time, level, event, pid and message, then the event's own fields."""
    Journal(StderrSink("json"), Clock()).transition(MADE)
    [line] = capfd.readouterr().err.splitlines()
    read = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", read["time"])
    assert ("INFO", "transition", os.getpid()) == (read["level"], read["event"], read["pid"])
    assert (str(MADE), 97, [None]) == (
        read["message"],
        read["settings"]["sample_rate"],
        [each["asked"] for each in read["adjustments"]],
    )


@pytest.mark.parametrize("format", ["json", "text"])
def test_no_text_breaks_a_line_on_stderr(format: Format, capfd: pytest.CaptureFixture[str]) -> None:
    """A lone surrogate is written escaped, and a second line never looks like a record of its own."""
    Journal(StderrSink(format), Clock()).say(
        logging.WARNING, "stuck", "half a pair: \ud800\nthen more", operation="stop"
    )
    first, *more = capfd.readouterr().err.splitlines()
    assert "WARNING" in first
    assert "\\ud800" in first
    assert (["  then more"] if format == "text" else []) == more


@pytest.mark.parametrize(
    "error", [RuntimeError("handler"), SystemExit(1), KeyboardInterrupt()], ids=lambda each: type(each).__name__
)
def test_what_a_sink_raises_goes_no_further(error: BaseException, clock: Clock) -> None:
    """A host's handler may raise anything: a log line is not worth the control thread."""

    class Broken:
        def write(self, level: int, event: str, message: str, fields: Mapping[str, Any]) -> None:
            raise error

    journal = Journal(Broken(), clock)
    journal.transition(MADE)
    journal.complain("stuck", "the server hangs", about="stop")


def test_secrets_are_masked_wherever_they_appear(journal: Journal, memory: Memory) -> None:
    """In messages and in fields, however deep; what is too short to be told from chance is left."""
    journal.say(
        logging.ERROR, "start_failed", "401 for hunter22", cause={"detail": "x hunter22"}, problems=["hunter22y"]
    )
    journal.say(logging.INFO, "closed", "abc")
    assert ["401 for ***", "abc"] == memory.messages
    assert {"cause": {"detail": "x ***"}, "problems": ["***y"]} == memory.records[0][3]


def test_a_secret_in_what_every_record_says_is_masked(journal: Journal, memory: Memory) -> None:
    """A tag may hold what an option holds."""
    journal.who = {"application": "shop", "tags": {"token": "hunter22"}}
    journal.say(logging.INFO, "closed", "it ends")
    assert {"application": "shop", "tags": {"token": "***"}} == memory.records[0][3]


def test_a_secret_that_begins_like_another_is_masked_whole(memory: Memory, clock: Clock) -> None:
    """The order in which secrets were read leaves no part of one in the log."""
    Journal(memory, clock, ["hunter", "hunter22"]).say(logging.INFO, "closed", "refused: hunter22")
    assert ["refused: ***"] == memory.messages


def test_secrets_that_are_learnt_later_are_masked_too(memory: Memory, clock: Clock) -> None:
    """Options of third-party plug-ins are read after the journal was made."""
    secrets: list[str] = []
    journal = Journal(memory, clock, secrets)
    secrets.append("hunter22")
    journal.say(logging.INFO, "closed", "hunter22")
    assert ["***"] == memory.messages


def test_repeats_are_folded_into_a_count(journal: Journal, memory: Memory, clock: Clock) -> None:
    """The same complaint comes at once, then at most once a minute, with what was left out counted."""
    for _ in range(59):
        journal.complain("source_unavailable", "gone", about="source")
        clock.now += 1.0
    assert ["gone"] == memory.messages
    clock.now += 1.0
    journal.complain("source_unavailable", "gone", about="source")
    assert ["gone", "gone (58 more times since)"] == memory.messages


def test_texts_that_differ_each_time_are_folded_too(journal: Journal, memory: Memory, clock: Clock) -> None:
    """A request's number in each text does not make a flood."""
    for number in range(6000):
        journal.complain("source_unavailable", f"request {number} failed", about="source")
        clock.now += 0.05
    assert len(memory.records) < 8 + 6


def test_something_else_is_told_at_once(journal: Journal, memory: Memory) -> None:
    """Neither another text nor another thing waits for the minute to be over."""
    journal.complain("source_unavailable", "gone", about="source")
    journal.complain("source_unavailable", "refused", about="source")
    journal.complain("stop_failed", "gone", about="stop", level=logging.ERROR)
    assert [logging.WARNING, logging.WARNING, logging.ERROR] == [level for level, *_ in memory.records]


def test_recovery_is_told_once_and_only_after_a_complaint(journal: Journal, memory: Memory) -> None:
    """Who was told that something is wrong is told when it is over."""
    journal.recover("source_recovered", "back", about="source")
    journal.complain("source_unavailable", "gone", about="source")
    journal.recover("source_recovered", "back", about="source")
    journal.recover("source_recovered", "back", about="source")
    journal.complain("source_unavailable", "gone", about="source")
    assert ["gone", "back", "gone"] == memory.messages


def test_once_is_once(journal: Journal, memory: Memory, clock: Clock) -> None:
    """A complaint that never changes is told the first time only, however long ago."""
    for _ in range(3):
        journal.once("observer_failed", "an observer raised", about="observer")
        clock.now += 1e6
    assert ["an observer raised"] == memory.messages


def test_each_distinct_adjustment_is_told_once(journal: Journal, memory: Memory) -> None:
    """One WARNING for each pair of asked and given, with its rule."""
    high, higher = (Adjustment("sample_rate", asked, 250, "max 250 (clamp)") for asked in (300, 400))
    for each in ([high], [high, higher], [higher], [high]):
        journal.adjusted(each)
    assert [(logging.WARNING, "adjusted", each._asdict()) for each in (high, higher)] == [
        (level, event, fields) for level, event, _, fields in memory.records
    ]
    assert "adjusted sample_rate: asked 300, given 250 (max 250 (clamp))" == memory.messages[0]


def test_adjustments_that_differ_each_time_are_folded(journal: Journal, memory: Memory, clock: Clock) -> None:
    """A request's number in what the source says of a flag, or a flag that counts, does not make a flood."""
    for number in range(600):
        journal.adjusted([Adjustment("sample_rate", "x", 20, f"the source says: request {number} failed")])
        clock.now += 0.5
    assert len(memory.records) < 8 + 6


def test_an_exception_is_described_in_one_short_line() -> None:
    """A third-party exception may have a long text, none, or one that cannot be made."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise SystemExit

    described = [describe(error) for error in (ValueError("a\nb"), ValueError(), Hostile(), ValueError("x" * 10**6))]
    assert ["ValueError: a\\nb", "ValueError", "Hostile: (its text cannot be shown)"] == described[:3]
    assert len(described[3]) < 400


# Events


def test_a_listener_hears_of_what_the_log_folds(memory: Memory, clock: Clock) -> None:
    """Each time that something goes wrong is an event; the log has the first alone."""
    heard: list[Event] = []
    journal = Journal(memory, clock, listeners=[heard.append])
    for _ in range(3):
        journal.complain("source_unavailable", "flag source: gone", about="flag source", also="; in 2 s", reason="gone")
    journal.recover("source_recovered", "flag source: it answers again", about="flag source")
    journal.recover("source_recovered", "flag source: it answers again", about="flag source")
    lost = Event("source_unavailable", logging.WARNING, "flag source: gone; in 2 s", "flag source", {"reason": "gone"})
    found = Event("source_recovered", logging.INFO, "flag source: it answers again", "flag source", {})
    assert [lost, lost, lost, found] == heard
    assert ["flag source: gone; in 2 s", "flag source: it answers again"] == memory.messages


def test_an_event_has_the_fields_of_its_record_and_no_secret(memory: Memory, clock: Clock) -> None:
    """The fields that identify the process are among them."""
    heard: list[Event] = []
    journal = Journal(memory, clock, ["s3cret-token"], [heard.append])
    journal.who = {"application": "shop"}
    journal.say(logging.ERROR, "start_failed", "refused: s3cret-token", reason=["s3cret-token"])
    ((level, event, message, fields),) = memory.records
    assert [Event("start_failed", level, message, "", fields)] == heard
    assert "start_failed" == event
    assert "s3cret" not in str(heard)
    with pytest.raises(TypeError):
        heard[0].fields["application"] = "other"  # type: ignore[index]


def test_what_a_listener_raises_is_said_once_and_goes_no_further(memory: Memory, clock: Clock) -> None:
    """The log has its lines all the same, and the other listeners hear."""

    def fail(event: Event) -> None:
        raise SystemExit(3)

    heard: list[Event] = []
    journal = Journal(memory, clock, listeners=[fail, heard.append])
    journal.transition(MADE)
    journal.transition(MADE)
    assert ["transition", "transition"] == [each.name for each in heard]
    assert ["observer_failed", "transition", "transition"] == [event for _, event, _, _ in memory.records]
    assert "on_event raised: SystemExit: 3" in memory.messages[0]
