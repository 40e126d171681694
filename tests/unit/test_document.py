"""YAML from anywhere: what is read, what is refused, and that nothing is read for long."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rheostat import ConfigError
from rheostat._config.config import load_config
from rheostat.plugins import SourceUnavailable, parse_flags

BOMB = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)

# Generous: a limit that does not hold takes minutes, or for ever.
pytestmark = pytest.mark.timeout(10)

Refusal = Callable[[bytes], str]


@pytest.fixture(params=["config", "flags"])
def refusal(request: pytest.FixtureRequest, tmp_path: Path) -> Refusal:
    """The error that a document makes as a configuration, and as a file of flags."""

    def of_config(data: bytes) -> str:
        path = tmp_path / "file.yaml"
        path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load_config(path, env={})
        return str(caught.value).removeprefix(f"{tmp_path}{os.sep}")

    def of_flags(data: bytes) -> str:
        with pytest.raises(SourceUnavailable) as caught:
            parse_flags(data, "file.yaml", {"a": object})
        return caught.value.reason

    return of_config if request.param == "config" else of_flags


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "file.yaml: found nothing, expected a mapping"),
        (b"# only a comment\n", "file.yaml: found nothing, expected a mapping"),
        (b"- a\n- b\n", "file.yaml:1:1: found a list, expected a mapping"),
        (b"\n  text\n", "file.yaml:2:3: found a text, expected a mapping"),
        (b"a: 1\nb: 2\na: 3\n", "file.yaml:3:1: found the key 'a' again, expected it once (first on line 1)"),
        (b"b: {x: 1, y: 2, x: 3}\n", "file.yaml:1:17: found the key 'x' again, expected it once (first on line 1)"),
        (b"a: 1\n? [x]\n: 2\n", "file.yaml:2:3: found a list as a key, expected a text as a key"),
        (b"a: 1\n---\nb: 2\n", "file.yaml:2:1: found a second document, expected one document"),
        (b"a: {<<: {b: 1}}\n", "file.yaml:1:5: found the merge key <<, expected the keys themselves"),
        (b"a: b: c\n", "file.yaml:1:5: found a syntax error: mapping values are not allowed in this context, "),
        (b"a: [1\n", "file.yaml:1:4: found a syntax error while parsing a flow sequence: "),
        (b"a: '\n", "file.yaml:1:4: found a syntax error while scanning a quoted scalar: "),
        (b"a: \t\n\tb: 1\n", "file.yaml:2:1: found a syntax error"),
        (b"a: 1\nbb: \xff\n", "file.yaml:2:5: found byte 0xff, which is not UTF-8, expected UTF-8 text"),
        (b"\xef\xbb\xbfa: \xff", "file.yaml:1:4: found byte 0xff, which is not UTF-8, expected UTF-8 text"),
        ("a: é\nüü: ".encode() + b"\xe9\n", "file.yaml:2:5: found byte 0xe9, which is not UTF-8, expected UTF-8 text"),
        ("a: 1\n".encode("utf-16"), "file.yaml:1:1: found byte 0xff, which is not UTF-8, expected UTF-8 text"),
        (
            b"\x7fELF\x02\x01\x01\0\0\0",
            "file.yaml:1:1: found a character that YAML does not allow, expected valid YAML",
        ),
        (b"a: 1\nbb: \x01", "file.yaml:2:5: found a character that YAML does not allow, expected valid YAML"),
        ("a: é\nüü: \x01".encode(), "file.yaml:2:5: found a character that YAML does not allow, expected valid YAML"),
        (b"[" * 21, "file.yaml:1:21: found more than 20 levels, expected at most 20 levels of nesting"),
        (b"[" * 50_000, "file.yaml:1:21: found more than 20 levels"),
        (b"{" * 50_000, "file.yaml:1:21: found more than 20 levels"),
        (b"- " * 50_000, "file.yaml:1:41: found more than 20 levels"),
        (b"? " * 50_000, "file.yaml:1:41: found more than 20 levels"),
        (b'a: "${' + b'\\"' * 100_000, "file.yaml:1:200007: found a syntax error while "),
        (BOMB.encode(), "file.yaml:2:8: found the merge key <<"),
    ],
    ids=lambda each: repr(each[:12]) if isinstance(each, bytes) else "",
)
def test_a_document_that_cannot_be_used_is_told_with_its_place(refusal: Refusal, data: bytes, expected: str) -> None:
    """Each is one error, at the line and column where an editor shows it, within a moment."""
    assert refusal(data).startswith(expected)


@pytest.mark.parametrize(
    ("data", "place", "expected"),
    [
        (b"a: &x 1\nb: *x\n", "2:4", "the value itself"),
        (b"a: &x [*x]\n", "1:8", "the value itself"),
        (b"a: &x {y: *x}\n", "1:11", "the value itself"),
        (b"a: !!python/object/apply:os.system [id]\n", "1:4", "a plain value"),
        (b"a: !secret x\n", "1:4", "a plain value"),
        (b"!!map {a: 1}\n", "1:1", "a plain value"),
    ],
)
def test_aliases_and_tags_are_refused(refusal: Refusal, data: bytes, place: str, expected: str) -> None:
    """Neither is followed, not even one that is harmless."""
    assert refusal(data).startswith(f"file.yaml:{place}: found ")
    assert refusal(data).endswith(f", expected {expected}")


def test_twenty_levels_are_enough() -> None:
    """The depth that is documented is accepted."""
    data = b"a: 1\nb: " + b"[" * 19 + b"]" * 19
    assert {"a": 1} == parse_flags(data, "flags.yaml", {"a": int}).values


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfa: 1\n", b"a: 1\r\nb: 2\r\n", b"%YAML 1.1\n---\na: 1\n...\n", b'{"a": 1}']
)
def test_what_editors_and_other_tools_write_is_read(data: bytes) -> None:
    """A byte order mark, carriage returns, directives and JSON are no errors."""
    assert {"a": 1} == parse_flags(data, "flags.yaml", {"a": int}).values


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("true", True),
        ("off", False),
        ("Yes", True),
        ("'off'", "off"),
        ("97", 97),
        ("'97'", "97"),
        ("-5", -5),
        ("9" * 1000, 10**1000 - 1),
        ("9" * 5000, "9" * 5000),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1e3", "1e3"),
        ("1.5", 1.5),
        ("1.0e+3", 1000.0),
        ("1_0.5", "1_0.5"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("2024-01-01", "2024-01-01"),
        ("", None),
        ("~", None),
        ("null", None),
        ("''", ""),
        ("<<", "<<"),
        ("=", "="),
        ("|\n  gil\n", "gil\n"),
    ],
)
def test_a_plain_value_is_what_a_person_means_by_it(written: str, expected: object) -> None:
    """Booleans and decimal numbers are typed; octal, base 60, underscores and dates stay the text they are."""
    actual = parse_flags(f"a: {written}".encode(), "flags.yaml", {"a": object}).values["a"]
    assert (type(expected), expected) == (type(actual), actual)


@pytest.mark.parametrize(
    ("written", "expected"), [("off", "off"), ("010", "010"), ("1.10", "1.10"), ("'x'", "x"), ("null", None)]
)
def test_where_a_text_is_wanted_a_plain_value_is_a_text(written: str, expected: object) -> None:
    """A mode called off is not false; only nothing is not a text."""
    assert {"a": expected} == parse_flags(f"a: {written}".encode(), "flags.yaml", {"a": str}).values


def test_a_list_is_an_error_of_its_flag_alone() -> None:
    """The other flags are read; flags that nobody wants are not looked at."""
    data = b"on: true\nrate: [97]\nmode: {a: 1}\nother: [1]\n"
    reading = parse_flags(data, "flags.yaml", {"on": bool, "rate": int, "mode": str, "absent": int})
    assert True is reading.values["on"]
    assert "absent" not in reading.values
    assert {
        "rate": "flags.yaml:2:7: found a list, expected a plain value",
        "mode": "flags.yaml:3:7: found a mapping, expected a plain value",
    } == reading.errors
    assert "line 1" == reading.reasons["on"]


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    """A folder, a pipe without a writer, an endless device and a missing file."""
    os.mkfifo(tmp_path / "pipe")
    for path, found in {
        tmp_path: "a folder or a special file, expected a regular file",
        tmp_path / "pipe": "a folder or a special file, expected a regular file",
        Path("/dev/zero"): "a folder or a special file, expected a regular file",
        tmp_path / "missing": "No such file or directory, expected a readable file",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert f"{path}: found {found}" == str(caught.value)


def test_a_path_that_no_file_can_have_is_an_error_like_any_other() -> None:
    """A NUL in the path is told as a ConfigError, which is what callers catch."""
    with pytest.raises(ConfigError):
        load_config("config\0.yaml")


@pytest.mark.parametrize(
    ("size", "content"), [(100 * 2**20, b""), (256 * 1024 + 1, b""), (0, b"[" * 10**6)], ids=["sparse", "over", "deep"]
)
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, size: int, content: bytes) -> None:
    """More than 256 KiB is refused, however much more it is."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    if size:
        os.truncate(path, size)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}: found more than 256 KiB, expected at most 256 KiB" == str(caught.value)


def test_a_file_of_just_the_size_that_is_documented_is_read(tmp_path: Path) -> None:
    """256 KiB are not too large: the only error is that they are all comment."""
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * 256 * 1024)
    with pytest.raises(ConfigError, match="found nothing, expected a mapping"):
        load_config(path)


def test_a_million_levels_of_flags_are_refused_at_once() -> None:
    """The nesting is judged as it is read, whatever the size."""
    with pytest.raises(SourceUnavailable, match="more than 20 levels"):
        parse_flags(b"[" * 10**6, "flags.yaml", {})
