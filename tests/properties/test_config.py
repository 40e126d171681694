"""Whatever is in a file, it is a ConfigError with places or a configuration, and no secret is ever shown."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rheostat import ConfigError
from rheostat._config.config import Config, load_config
from rheostat._report.journal import Journal
from rheostat.plugins import Reading, SourceUnavailable, parse_flags
from support.fuzzing import ODD, SECRET, TOKENS, well_formed

# A limit that does not hold takes minutes, or for ever.
pytestmark = pytest.mark.timeout(60)

yaml_like = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)
some_bytes = st.one_of(
    st.binary(max_size=200),
    yaml_like.map(str.encode),
    st.tuples(yaml_like, st.binary(max_size=3), yaml_like).map(lambda t: t[0].encode() + t[1] + t[2].encode()),
)


def read(data: bytes) -> Config | ConfigError:
    """The configuration in a file with this content, or the error that it makes, which is well-formed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_bytes(data)
        try:
            return load_config(path, env={"TOKEN": SECRET}, third_party=True)
        except ConfigError as raised:
            error = raised
    well_formed(error, path, data)
    return error


@given(some_bytes)
@example(b"a: *b")
@example(b"&a [*a]")
@example(rb'{"\n\e[31m": 1}')
@example(b"\xff\xfea\0")
def test_any_bytes_make_a_config_or_a_config_error(data: bytes) -> None:
    """Nothing else is raised, and every problem has its place."""
    assert isinstance(read(data), Config | ConfigError)


@given(
    some_bytes, st.dictionaries(st.sampled_from(["a", "b", "1", ""]), st.sampled_from([bool, int, float, str, object]))
)
def test_any_bytes_make_a_reading_or_an_unavailable_source(data: bytes, wanted: Mapping[str, type]) -> None:
    """A file of flags is read or not; only what was asked for is in the reading, and it has a line."""
    try:
        reading = parse_flags(data, "flags.yaml", wanted)
    except SourceUnavailable:
        return
    assert isinstance(reading, Reading)
    assert reading.values.keys() <= wanted.keys()
    assert reading.values.keys() == reading.reasons.keys()
    assert reading.errors.keys() <= reading.values.keys()


# A valid configuration that is damaged. A node is a list of entries, a list of nodes in a tuple, or YAML as written.

Node = list[tuple[str, "Node"]] | tuple["Node", ...] | str


def render(node: Node) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, tuple):
        return f"[{', '.join(map(render, node))}]"
    return "{" + ", ".join(f"{json.dumps(key)}: {render(value)}" for key, value in node) + "}"


quoted = st.text("ab1 /:@?#%&{}[]!*'\"\\\n\té\0", max_size=4)


@st.composite
def secrets(draw: st.DrawFn) -> str:
    """A secret as written in the file: itself with something around it, or a variable."""
    if draw(st.booleans()):
        return '"${TOKEN}"'
    return json.dumps(draw(quoted) + SECRET + draw(quoted))


@st.composite
def urls(draw: st.DrawFn) -> str:
    user = draw(st.sampled_from(["", "user:", ":"])) + draw(quoted) + SECRET + draw(quoted)
    return json.dumps(f"{draw(st.sampled_from(['http://', 'https://', 'ftp://']))}{user}@host:4040/push")


@st.composite
def valid(draw: st.DrawFn) -> Node:
    """A configuration with every section, with a secret in every secret field."""
    return [
        ("version", "1"),
        ("application", "checkout"),
        ("tags", [("role", "api"), ("version", '"${VERSION:-dev}"')]),
        ("source", [("kind", "yaml"), ("path", "flags.yaml"), ("poll_interval", "1s")]),
        ("backend", [
            ("kind", draw(st.sampled_from(["pyroscope", "pyroscope", "noop"]))),
            ("server_address", draw(urls())),
            ("http_headers", [("X-Key", draw(secrets())), ("X-Other", draw(secrets()))]),
            draw(st.sampled_from([("auth_token", draw(secrets())), ("basic_auth_password", draw(secrets()))])),
            ("basic_auth_username", draw(st.sampled_from(["''", "user"]))),
            ("tags", [("zone", "a")]),
            ("report_pid", "false"),
        ]),
        ("enabled", [("flag", "on"), ("default", "false")]),
        ("settings", [
            ("sample_rate", [("flag", "rate"), ("default", "20"), ("clamp", [("min", "1"), ("max", "250")])]),
            ("mode", [("flag", "mode"), ("clamp", [("choices", ("gil", "cpu")), ("otherwise", "hold")])]),
            ("upload_interval", "15"),
        ]),
        ("policy", [("resync", "30s"), ("backoff", [("initial", "1s"), ("max", "5m")]), ("kill_switch", "null")]),
        ("disabled", "false"),
    ]  # fmt: skip


KEYS = ["", "a", "flag", "kind", "enabled", "colour", "<<", "é\n\0\x1b[31m", "k" * 500]


@st.composite
def damaged(draw: st.DrawFn) -> Node:
    """A valid configuration after a few mutations: what is dropped, renamed, doubled, wrapped or replaced."""
    node = draw(valid())
    for _ in range(draw(st.integers(0, 3))):
        node = mutated(node, draw)
    return node


def mutated(node: Node, draw: st.DrawFn) -> Node:
    if not isinstance(node, list) or not node:
        return draw(st.sampled_from(ODD))
    at = draw(st.integers(0, len(node) - 1))
    key, value = node[at]
    odd = draw(st.sampled_from(ODD))
    ways: list[list[tuple[str, Node]]] = [
        [],
        [(key, odd)],
        [(key[:-1], value)],
        [(key + "s", value)],
        [(draw(st.sampled_from(KEYS)), value)],
        [(key, value), (key, value)],
        [(key, value), (draw(st.sampled_from(KEYS)), odd)],
        [(f"{key}_file", odd)],
        [(key, (value,))],
        [(key, [(key, value)])],
    ]
    changed = draw(st.sampled_from(ways)) if draw(st.booleans()) else [(key, mutated(value, draw))]
    return [*node[:at], *changed, *node[at + 1 :]]


class Memory:
    def __init__(self) -> None:
        self.told = ""

    def write(self, level: int, event: str, message: str, fields: Mapping[str, object]) -> None:
        self.told += f"{event} {message} {fields}"


@given(damaged())
def test_no_secret_is_shown_whatever_is_wrong(node: Node) -> None:
    """Not in an error, not in the log line about it, not in the repr of a configuration that could be read."""
    found = read(render(node).encode())
    memory = Memory()
    if isinstance(found, ConfigError):
        Journal(memory, lambda: 0.0).invalid(found.problems)
        shown: list[object] = [found, found.problems, memory.told]
    else:
        wiring = found.wire()
        shown = [found, found.sections, wiring, wiring.rules]
        if not isinstance(wiring.backend.options, dict):
            shown.append(wiring.backend.options)
    for each in shown:
        assert SECRET not in repr(each)
        assert SECRET not in str(each)


@given(valid())
def test_what_somebody_else_says_of_a_secret_is_masked(node: Node) -> None:
    """Texts of secret fields, however they were written, are masked in messages and fields of the log."""
    found = read(render(node).encode())
    if isinstance(found, ConfigError) or found.sections.backend is None or found.sections.backend.kind == "noop":
        return
    options, memory = found.wire().backend.options, Memory()
    texts = [options.server_address.credentials, *(each.reveal() for each in options.http_headers.values())]
    texts += [each.reveal() for each in (options.auth_token, options.basic_auth_password) if each is not None]
    Journal(memory, lambda: 0.0, found.secrets).say(30, "start_failed", f"refused: {' '.join(texts)}", detail=texts)
    assert SECRET not in memory.told
