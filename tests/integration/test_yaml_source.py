import gc
import os
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from rheostat.plugins import Duration, FilePath, FlagSource, Identity, InvalidOptions, Reading, SourceUnavailable
from rheostat_flagsources.yaml_file import YamlFileOptions, YamlFileSource
from support.children import PATIENCE

POLL = 1.0
SOON = 0.02
LARGEST = 64 * 1024
KIBIBYTE = 1024
LONG_AGO = 1_000_000_000 * 10**9

WANTED: Mapping[str, type] = MappingProxyType({"enabled": bool, "rate": int, "mode": str, "anything": object})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the flags are, in a folder that is not there yet."""
    return tmp_path / "config" / "flags.yaml"


@pytest.fixture
def flags(path: Path) -> Path:
    """A file with the rate 1."""
    path.parent.mkdir()
    path.write_text("rate: 1\n")
    return path


@pytest.fixture
def resting(flags: Path) -> Path:
    """The same file some time after it was written."""
    settle(flags)
    return flags


def source_of(path: Path, poll_interval: float = POLL) -> YamlFileSource:
    options = YamlFileOptions(path=FilePath(str(path)), poll_interval=Duration(poll_interval))
    return YamlFileSource(options, Identity("shop", "here", {}, 1))


def settle(path: Path) -> None:
    """Wait until the file's times are not those of this moment."""
    written = os.stat(path).st_ctime_ns
    deadline = time.monotonic() + PATIENCE
    while time.time_ns() - written < 1.2 * SOON * 1e9:
        assert time.monotonic() < deadline


def value(source: YamlFileSource, flag: str = "rate") -> object:
    return source.read(WANTED).values[flag]


def why_unavailable(source: YamlFileSource) -> str:
    with pytest.raises(SourceUnavailable) as raised:
        source.read(WANTED)
    return str(raised.value.reason)


def promptly(read: Callable[[], object]) -> list[object]:
    """Its result or exception; fails if it blocks."""
    outcome: list[object] = []

    def body() -> None:
        try:
            outcome.append(read())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "it blocks"
    return outcome


def meddle(patch: pytest.MonkeyPatch, path: Path, moments: Mapping[int, Callable[[], object]], *, before: bool) -> None:
    """Do something just before or just after the n-th stat of the file, as another process might."""
    real = os.stat
    calls = 0

    def stat(asked: Any, *args: Any, **options: Any) -> os.stat_result:
        nonlocal calls
        if os.fspath(asked) != str(path):
            return real(asked, *args, **options)
        calls += 1
        if before and calls in moments:
            moments[calls]()
        try:
            return real(asked, *args, **options)
        finally:
            if not before and calls in moments:
                moments[calls]()

    patch.setattr(os, "stat", stat)


def stop_the_clock(patch: pytest.MonkeyPatch, path: Path) -> None:
    """From now on the file's times do not change, as within one tick of the kernel's clock."""
    real, at = os.stat, os.stat(path)
    names = ("st_mode", "st_dev", "st_ino", "st_size")
    times = {"st_mtime_ns": at.st_mtime_ns, "st_ctime_ns": at.st_ctime_ns}

    def stat(asked: Any, *args: Any, **options: Any) -> Any:
        found = real(asked, *args, **options)
        if os.fspath(asked) != str(path):
            return found
        return SimpleNamespace(**{name: getattr(found, name) for name in names}, **times)

    patch.setattr(os, "stat", stat)
    patch.setattr(time, "time_ns", lambda: at.st_ctime_ns + 10**6)
    patch.setattr(time, "time", lambda: (at.st_ctime_ns + 10**6) / 10**9)


def grown(work: Callable[[], object]) -> int:
    """Bytes that are allocated more after thousands of calls than before."""
    for _ in range(100):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(10):
            work()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5000):
            work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


# A file that changes


def test_is_a_flag_source(path: Path) -> None:
    """The class fulfils the contract of flag sources."""
    assert isinstance(source_of(path), FlagSource)


def test_write_in_place_is_seen(flags: Path) -> None:
    """The next read after the file was written in place gives its new values."""
    source = source_of(flags)
    assert 1 == value(source)

    flags.write_text("rate: 22\n")
    assert 22 == value(source)


def test_atomic_rename_is_seen(flags: Path) -> None:
    """The next read after another file took its place gives that one's values."""
    source = source_of(flags)
    assert 1 == value(source)

    other = flags.with_suffix(".new")
    other.write_text("rate: 2\n")
    other.replace(flags)
    assert 2 == value(source)


def test_older_file_in_its_place_is_seen(flags: Path) -> None:
    """A file that is older than the one it replaces counts just as well: a rollback is a change."""
    source = source_of(flags)
    assert 1 == value(source)

    backup = flags.with_suffix(".bak")
    backup.write_text("rate: 0\n")
    os.utime(backup, ns=(LONG_AGO, LONG_AGO))
    backup.replace(flags)
    assert 0 == value(source)


def test_deleted_and_made_again(flags: Path) -> None:
    """While the file is gone the source says so, and when it is back its values are."""
    source = source_of(flags)
    assert 1 == value(source)

    flags.unlink()
    assert f"{flags}: No such file or directory; expected a YAML file of flags" == why_unavailable(source)
    flags.write_text("rate: 2\n")
    assert 2 == value(source)


def test_folder_deleted_and_made_again(flags: Path) -> None:
    """While the folder is gone the source says so, and when it is back the file's values are."""
    source = source_of(flags)
    assert 1 == value(source)

    shutil.rmtree(flags.parent)
    assert why_unavailable(source).startswith(f"{flags}: No such file or directory")
    flags.parent.mkdir()
    assert why_unavailable(source).startswith(f"{flags}: No such file or directory")
    flags.write_text("rate: 2\n")
    assert 2 == value(source)


def test_same_file_is_back(flags: Path) -> None:
    """A file that comes back as it was gives the values it had."""
    source = source_of(flags)
    first = source.read(WANTED)

    aside = flags.rename(flags.with_suffix(".aside"))
    why_unavailable(source)
    aside.rename(flags)
    assert first == source.read(WANTED)


def test_file_appears_later(path: Path) -> None:
    """The file and its folder need not be there when the source is opened."""
    source = source_of(path)
    source.open(lambda: None)
    assert why_unavailable(source).startswith(f"{path}: No such file or directory")

    path.parent.mkdir()
    path.write_text("rate: 1\n")
    assert 1 == value(source)


def test_parent_is_a_file(tmp_path: Path) -> None:
    """A file where the folder ought to be is said in the operating system's words."""
    (tmp_path / "config").write_text("")
    path = tmp_path / "config" / "flags.yaml"

    assert why_unavailable(source_of(path)).startswith(f"{path}: Not a directory")


def test_symlink_loop_is_unavailable(path: Path) -> None:
    """A symbolic link to itself is said in the operating system's words."""
    path.parent.mkdir()
    path.symlink_to(path)

    assert f"{path}: Too many levels of symbolic links" in why_unavailable(source_of(path))


def test_config_map_swap_is_seen(tmp_path: Path) -> None:
    """A Kubernetes ConfigMap's update, which only moves the link ``..data``, is seen at once, time and again."""
    volume = tmp_path / "volume"
    volume.mkdir()

    def publish(generation: int) -> None:
        data = volume / f"..2026_{generation}"
        data.mkdir()
        (data / "flags.yaml").write_text(f"rate: {generation}\n")
        os.utime(data / "flags.yaml", ns=(LONG_AGO, LONG_AGO))
        link = volume / "..data"
        before = os.readlink(link) if link.is_symlink() else None
        (volume / "..data_tmp").symlink_to(data.name)
        (volume / "..data_tmp").replace(link)
        if before is not None:
            shutil.rmtree(volume / before)

    publish(0)
    (volume / "flags.yaml").symlink_to("..data/flags.yaml")
    source = source_of(volume / "flags.yaml")
    assert 0 == value(source)
    for generation in range(1, 10):
        publish(generation)
        assert generation == value(source)


def test_same_size_rewrite_with_old_times_is_seen(resting: Path) -> None:
    """A rewrite that leaves size, inode and modification time as they were is seen all the same."""
    os.utime(resting, ns=(LONG_AGO, LONG_AGO))
    settle(resting)
    source = source_of(resting)
    for rate in (1, 2, 3):
        resting.write_text(f"rate: {rate}\n")
        os.utime(resting, ns=(LONG_AGO, LONG_AGO))
        assert LONG_AGO == resting.stat().st_mtime_ns
        assert rate == value(source)
        settle(resting)


def test_two_writes_in_one_tick(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second write that leaves no trace in the stat is seen by the look that a fresh file gets anyway."""
    flags.write_text("rate: 2\n")
    stop_the_clock(monkeypatch, flags)
    source = source_of(flags)
    assert 2 == value(source)
    assert source.poll_interval == SOON

    flags.write_text("rate: 3\n")
    assert 3 == value(source)


def test_two_writes_in_one_tick_with_reads_between(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second write is seen however often the file was read since the first: a start that returns wakes too."""
    flags.write_text("rate: 2\n")
    stop_the_clock(monkeypatch, flags)
    source = source_of(flags)
    for _ in range(3):
        assert 2 == value(source)

    flags.write_text("rate: 3\n")
    assert 3 == value(source)


def test_two_writes_in_one_tick_with_old_times(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second write is seen also where both restore the modification time, as copying tools do."""
    flags.write_text("rate: 2\n")
    os.utime(flags, ns=(LONG_AGO, LONG_AGO))
    stop_the_clock(monkeypatch, flags)
    source = source_of(flags)
    assert 2 == value(source)

    flags.write_text("rate: 3\n")
    os.utime(flags, ns=(LONG_AGO, LONG_AGO))
    assert 3 == value(source)


# A file that is being written


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stat", [1, 2])
def test_write_during_the_read(resting: Path, monkeypatch: pytest.MonkeyPatch, stat: int, before: bool) -> None:
    """However a write falls into the read, nothing is lost: what it gives is old or new, and soon it is the new."""
    source = source_of(resting)
    assert 1 == value(source)

    resting.write_text("rate: 22\n")
    settle(resting)
    with monkeypatch.context() as patch:
        meddle(patch, resting, {stat: lambda: resting.write_text("rate: 333\n")}, before=before)
        assert value(source) in (1, 22, 333)
    assert 333 == value(source)


@pytest.mark.parametrize("before", [True, False], ids=["after-the-read", "before-the-read"])
def test_write_between_two_stats_holds_the_last_values(
    resting: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Where two looks disagree, the last values hold, as the same object, and the file is looked at again soon."""
    source = source_of(resting)
    first = source.read(WANTED)
    assert POLL == source.poll_interval

    resting.write_text("rate: 22\n")
    settle(resting)
    with monkeypatch.context() as patch:
        meddle(patch, resting, {2 if before else 1: lambda: resting.write_text("rate: 333\n")}, before=before)
        assert first is source.read(WANTED)
    assert SOON == source.poll_interval
    assert 333 == value(source)


def test_write_during_the_first_read(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no last values yet, the source says what it waits for."""
    source = source_of(flags)
    with monkeypatch.context() as patch:
        meddle(patch, flags, {2: lambda: flags.write_text("rate: 22\n")}, before=True)
        assert f"{flags}: is being written" == why_unavailable(source)
    assert SOON == source.poll_interval
    assert 22 == value(source)


def test_deleted_during_the_read(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that vanishes between the stat and the read is a file that is gone."""
    source = source_of(flags)
    with monkeypatch.context() as patch:
        meddle(patch, flags, {1: flags.unlink}, before=False)
        assert why_unavailable(source).startswith(f"{flags}: No such file or directory")
    flags.write_text("rate: 2\n")
    assert 2 == value(source)


def test_pipe_takes_its_place_during_the_read(flags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that takes the file's place between the stat and the read does not block."""
    source = source_of(flags)
    first = source.read(WANTED)

    def swap() -> None:
        flags.unlink()
        os.mkfifo(flags)

    flags.write_text("rate: 22\n")
    with monkeypatch.context() as patch:
        meddle(patch, flags, {1: swap}, before=False)
        (outcome,) = promptly(lambda: source.read(WANTED))
    assert outcome is first or isinstance(outcome, SourceUnavailable)
    assert "not a regular file" in why_unavailable(source)


def test_poll_interval_is_as_configured_at_rest(resting: Path) -> None:
    """A file that rests is looked at as often as configured."""
    source = source_of(resting, 5.0)
    source.read(WANTED)

    assert 5.0 == source.poll_interval


def test_fresh_file_comes_to_rest(path: Path) -> None:
    """A file that was just written is looked at again soon, and later as often as configured."""
    path.parent.mkdir()
    path.write_text("rate: 1\n")
    source = source_of(path)
    deadline = time.monotonic() + PATIENCE
    while value(source) == 1 and source.poll_interval != POLL:
        assert SOON == source.poll_interval
        assert time.monotonic() < deadline


def test_shorter_poll_interval_stays(path: Path) -> None:
    """Where it is configured to look more often than every 20 ms, a fresh file does not slow it down."""
    path.parent.mkdir()
    path.write_text("rate: 1\n")
    source = source_of(path, 0.015)
    source.read(WANTED)

    assert 0.015 == source.poll_interval


def test_poll_interval_has_a_least() -> None:
    """An interval that would take the host's CPU is an invalid option."""
    with pytest.raises(InvalidOptions) as raised:
        YamlFileOptions(path=FilePath("flags.yaml"), poll_interval=Duration(0.0))

    assert {"poll_interval": "at least 10ms"} == raised.value.expected


@pytest.mark.parametrize("written", [-60, 60])
def test_a_file_that_was_not_written_within_its_greatest_age_is_no_answer(resting: Path, written: int) -> None:
    """Neither one of long ago nor one of the future, whose writer may be dead as well."""
    options = YamlFileOptions(path=FilePath(str(resting)), max_age=Duration(30.0))
    source = YamlFileSource(options, Identity("shop", "here", {}, 1))
    assert {"rate": 1} == dict(source.read(WANTED).values)
    moment = time.time() + written
    os.utime(resting, (moment, moment))
    assert f"{resting}: it was not written within max_age (30 s)" in why_unavailable(source)


# A file that cannot be used


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"rate: 1\nmode: 'wal", 2),
        (b"rate: 1\nmode: [wall", 2),
        (b"rate: 1\n mode: wall\n", 2),
        (b"rate: 1\nmode: {wall\n", 2),
        (b"rate: 1\n\nrate: 2\n", 3),
        (b"rate: &a 1\nmode: *a\n", 2),
        (b"rate: 1\n<<: {mode: wall}\n", 2),
        (b"rate: 1\n---\nrate: 2\n", 2),
        (b"rate: !!python/name:os.system 1\n", 1),
        (b"rate: 1\nmode: \x00\n", 2),
        (b"rate: 1\nmode: \xff\xfe\n", 2),
        (b"\n- rate: 1\n", 2),
        (b"true\n", 1),
        (b"rate: 1\nmode: " + b"[" * 50_000, 2),
    ],
    ids=[
        "open-quote",
        "open-list",
        "indentation",
        "open-mapping",
        "duplicate",
        "alias",
        "merge",
        "second-document",
        "tag",
        "null-byte",
        "not-utf-8",
        "list",
        "scalar",
        "depth",
    ],
)
def test_unusable_content_is_named_with_its_line(flags: Path, content: bytes, line: int) -> None:
    """Invalid or half-written content makes the source unavailable, with a reason that names file and line."""
    source = source_of(flags)
    assert 1 == value(source)

    flags.write_bytes(content)
    began = time.monotonic()
    reason = why_unavailable(source)
    assert time.monotonic() - began < 1
    assert reason.startswith(f"{flags}:{line}:")
    assert "expected" in reason

    flags.write_text("rate: 22\n")
    assert 22 == value(source)


@pytest.mark.parametrize("content", ["", "\n\n", "# rate: 1\n", "---\n"], ids=["empty", "blank", "comment", "document"])
def test_file_without_content_is_unavailable(flags: Path, content: str) -> None:
    """An empty file is one that is just being written, and not one that turns everything off."""
    source = source_of(flags)
    assert 1 == value(source)

    flags.write_text(content)
    reason = why_unavailable(source)
    assert reason.startswith(str(flags))
    assert "found nothing, expected a mapping" in reason


def test_empty_mapping_defines_nothing(flags: Path) -> None:
    """A file may say that no flag is defined."""
    flags.write_text("{}\n")

    assert Reading({}) == source_of(flags).read(WANTED)


def test_largest_file(flags: Path) -> None:
    """A file of 64 KiB is read; one byte more is refused, and the reason names the limit."""
    source = source_of(flags)
    line = "rate: 5\n#"
    flags.write_text(line.ljust(LARGEST, "x"))
    assert 5 == value(source)

    flags.write_text(line.ljust(LARGEST + 1, "x"))
    assert f"{flags}: found more than 64 KiB, expected a small file of flags" == why_unavailable(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_unavailable(flags: Path) -> None:
    """A file that may not be read is said in the operating system's words, and read as soon as it may be."""
    flags.chmod(0)
    source = source_of(flags)
    assert why_unavailable(source).startswith(f"{flags}: Permission denied")

    flags.chmod(0o600)
    assert 1 == value(source)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def make_socket(path: Path) -> None:
    # The path of a socket has to be short.
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)


@pytest.mark.parametrize("make", [make_pipe, make_folder, make_endless, make_terminal, make_socket])
def test_special_file_in_its_place(flags: Path, make: Callable[[Path], None]) -> None:
    """Anything but a regular file in its place makes the source unavailable, at once."""
    source = source_of(flags)
    assert 1 == value(source)

    flags.unlink()
    make(flags)
    (outcome,) = promptly(lambda: source.read(WANTED))
    assert isinstance(outcome, SourceUnavailable)
    assert f"{flags}: not a regular file; expected a YAML file of flags" == outcome.reason


def test_pipe_with_a_writer_in_its_place(path: Path) -> None:
    """A pipe that somebody holds open and writes nothing into does not block."""
    path.parent.mkdir()
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        (outcome,) = promptly(lambda: source_of(path).read(WANTED))
    finally:
        os.close(writer)
    assert isinstance(outcome, SourceUnavailable)


# Values


@pytest.mark.parametrize(
    ("text", "flag", "expected"),
    [
        ("on", "enabled", True),
        ("yes", "enabled", True),
        ("True", "enabled", True),
        ("off", "enabled", False),
        ("no", "enabled", False),
        ("'on'", "enabled", "on"),
        ("1", "enabled", 1),
        ("off", "mode", "off"),
        ("no", "mode", "no"),
        ("true", "mode", "true"),
        ("10", "mode", "10"),
        ("007", "mode", "007"),
        ("1.50", "mode", "1.50"),
        ("'null'", "mode", "null"),
        ("null", "mode", None),
        ("", "mode", None),
        ("~", "rate", None),
        ("97", "rate", 97),
        ("-3", "rate", -3),
        ("+3", "rate", 3),
        ("10.0", "rate", 10.0),
        ("'97'", "rate", "97"),
        ("true", "rate", True),
        ("off", "anything", False),
        ("97", "anything", 97),
        ("2026-11-23", "anything", "2026-11-23"),
        ("größe", "anything", "größe"),
    ],
)
def test_plain_values(flags: Path, text: str, flag: str, expected: object) -> None:
    """A plain scalar is what YAML says it is, and a text where a text is wanted."""
    flags.write_text(f"{flag}: {text}\n", "utf-8")
    found = value(source_of(flags), flag)

    assert (type(expected), expected) == (type(found), found)


@pytest.mark.parametrize(
    "text", ["010", "0x10", "0b1", "1e3", "1e+3", "12:30", "1:30.5", "1_000", "1_000.5", "1" * 5000]
)
@pytest.mark.parametrize("flag", ["enabled", "rate", "mode", "anything"])
def test_odd_notations_are_never_numbers(flags: Path, text: str, flag: str) -> None:
    """Octal, hexadecimal, sexagesimal and grouped digits, exponents and endless digits stay what was written."""
    flags.write_text(f"{flag}: {text}\n")

    assert text == value(source_of(flags), flag)


def test_json_is_read(flags: Path) -> None:
    """A JSON file is a YAML file too."""
    flags.write_text('{"enabled": true, "rate": 97, "mode": "wall"}')

    assert {"enabled": True, "rate": 97, "mode": "wall"} == source_of(flags).read(WANTED).values


def test_byte_order_mark_and_line_ends(flags: Path) -> None:
    """A file as some editors write it, with a byte order mark and CRLF, is read like any other."""
    flags.write_bytes(b"\xef\xbb\xbfrate: 5\r\nmode: wall\r\n")

    assert {"rate": 5, "mode": "wall"} == source_of(flags).read(WANTED).values


def test_undefined_and_unwanted_flags_are_absent(flags: Path) -> None:
    """Only what is wanted and defined is in the reading; other flags may be anything."""
    flags.write_text("rate: 5\nothers: [1, {a: b}]\n")
    reading = source_of(flags).read(WANTED)

    assert {"rate": 5} == reading.values
    assert {"rate": "line 1"} == reading.reasons
    assert {} == reading.errors
    assert reading.stale_since is None


@pytest.mark.parametrize(("text", "found"), [("[1, 2]", "a list"), ("{a: 1}", "a mapping")])
def test_container_is_an_error_of_its_flag_alone(flags: Path, text: str, found: str) -> None:
    """A list or mapping as a flag's value is an error with file, line and column; the other flags are fine."""
    flags.write_text(f"rate: 5\nmode: {text}\n")
    reading = source_of(flags).read(WANTED)

    assert {"mode": f"{flags}:2:7: found {found}, expected a plain value"} == reading.errors
    assert 5 == reading.values["rate"]


# What a look costs


def test_unchanged_file_gives_the_same_reading(resting: Path) -> None:
    """While nothing changes the reading is the same object, touched or not."""
    source = source_of(resting)
    first = source.read(WANTED)
    assert first is source.read(WANTED)

    os.utime(resting)
    assert first is source.read(WANTED)
    resting.write_text("rate: 1\n# a comment\n")
    assert first is source.read(WANTED)


@pytest.mark.parametrize(("old", "new"), [("true", "1"), ("1", "true"), ("0", "false")])
def test_equal_value_of_another_type_is_a_change(flags: Path, old: str, new: str) -> None:
    """Python takes true and 1 for equal; a flag that changes from one to the other has changed."""
    flags.write_text(f"rate: {old}\n")
    source = source_of(flags)
    before = value(source)

    flags.write_text(f"rate: {new}  # changed\n")
    assert repr(before) != repr(value(source))
    assert repr(value(source_of(flags))) == repr(value(source))


def test_reads_of_a_resting_file_keep_nothing(resting: Path) -> None:
    """Thousands of reads of a file that does not change leave nothing allocated."""
    source = source_of(resting)

    assert grown(lambda: source.read(WANTED)) < KIBIBYTE


@pytest.mark.parametrize("content", [None, "rate: [", ""], ids=["missing", "invalid", "empty"])
def test_reads_while_unavailable_keep_nothing(resting: Path, content: str | None) -> None:
    """Thousands of reads of a file that is missing or invalid leave nothing allocated."""
    source = source_of(resting)
    source.read(WANTED)
    if content is None:
        resting.unlink()
    else:
        resting.write_text(content)
        settle(resting)

    def work() -> None:
        with suppress(SourceUnavailable):
            source.read(WANTED)

    assert grown(work) < KIBIBYTE


def test_no_thread_and_no_descriptor(flags: Path) -> None:
    """Watching takes no thread, and no descriptor is left open, whatever became of the read."""
    threads = threading.active_count()
    lowest = os.dup(0)
    os.close(lowest)
    source = source_of(flags)
    source.open(lambda: None)
    for content in ("rate: 2\n", "rate: [", "rate: 1\n".ljust(LARGEST + 1), "rate: 3\n"):
        flags.write_text(content)
        with suppress(SourceUnavailable):
            source.read(WANTED)

    now = os.dup(0)
    os.close(now)
    assert (threads, lowest) == (threading.active_count(), now)


def test_close_is_idempotent(flags: Path) -> None:
    """It may be closed before it was opened, and as often as one likes."""
    source = source_of(flags)
    source.close()
    source.open(lambda: None)
    source.read(WANTED)
    source.close()
    source.close()
