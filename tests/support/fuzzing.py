"""Files that no person would write, and what reading one may come to: a documented error, soon, small, without secrets.

    python tests/fuzzing.py config 7 0 5000     # reader, seed, first number, how many

Prints what went wrong, and exits with 1 if anything did. An input depends on its seed and number alone.
"""

import itertools
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from rheostat import ConfigError
from rheostat._config.config import LARGEST as LARGEST_CONFIG
from rheostat._config.config import load_config
from rheostat._config.document import Node, Scalar, parse_yaml
from rheostat._config.document import Sequence as Items
from rheostat._config.interpolation import interpolate
from rheostat.plugins import FilePath, Identity, Reading, SourceUnavailable
from rheostat_flagsources.yaml_file import LARGEST as LARGEST_FLAGS
from rheostat_flagsources.yaml_file import YamlFileOptions, YamlFileSource

from .pages import DOCS, blocks

LONGEST: Final = 0.1
"""Seconds of CPU that reading one file may take."""

MOST_MEMORY: Final = 50 * 1024 * 1024
"""Bytes by which the process may grow, and all files that were read before count too."""

_COSTS: Final = ("took too long", "took too much memory")

_BREAKS: Final = ("\n", "\r", "\x85", "\u2028", "\u2029")

_MOST_FAILURES: Final = 10
_MOST_TRIES: Final = 150
_MOST_SHOWN: Final = 3000

SECRET: Final = "s3cretN33dle"

# Of what YAML is made, so that arbitrary text comes near to it.
TOKENS: Final = [
    "a", "b", ": ", ":", "\n", "\n  ", "- ", ", ", "[", "]", "{", "}", "? ", "&x ", "*x", "<<: ", "!t ", "!!map ", '"',
    "'", "#", " #", "|\n", ">-\n", "%YAML 1.1\n", "---\n", "...\n", "\t", "\0", "\x85", "\u2028", "\ufeff", "é", "🙂",
    "\r", "1", "1e3", ".nan", "~", "yes", "version: 1\n", "source: {kind: yaml}\n", "settings:\n", "${A}", "${",
]  # fmt: skip

# What stands for a value that nobody expected.
ODD: Final = [
    "null", "~", "", '""', "[]", "{}", "[[" * 15 + "]]" * 15, "*x", "&x 1", "!!python/object:os.system x",
    r'"\0"', r'"a\nb"', r'"\U0001F642"', "1e999", "1.0e+999", ".nan", "-.inf", "-1", "0", "9" * 5000, "x" * 3000,
    '"${UNSET}"', '"${"', '"${A:-${B}}"', "'  '", "1.5", "yes", "true", "[1, x, {a: [b]}]", "{a: 1, a: 2}", "10m",
    "off", "gil", '"../.."', "/dev/null", "'os:system'", "nosuch", "{flag: on}", "{clamp: {min: 300}}", "2024-01-01",
    "{min: 5, max: 1}", r'{choices: ["a\nb"]}', "{<<: {a: 1}}", r'["\e[31m"]',
]  # fmt: skip

_WORDS: Final = [
    *ODD, "noop", "pyroscope", "yaml", "growthbook", "launchdarkly", "openfeature", "layers", "auth_token", "sdk_key",
    r'"\ud800"', r'"\uDFFF\u0000"', '"${TOKEN}"', '"${SURROGATE}"', "http_headers", "0x" + "f" * 99, "1:2:3:4", "1_0",
    "{a: &a [*a]}", "{<<: [{a: 1}, {b: 2}]}", "1" + "0" * 400 + ".0", "0.0" + "0" * 400 + "1", "-0", "+.INF",
]  # fmt: skip

_BYTES: Final = [
    *(token.encode() for token in TOKENS), b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\xff",
    b"\x1b[31m", b"\x7f", b"\xc2\x80", b"\xef\xbf\xbe", b"\xe2\x80\xae", b"\r\n", b"\\", b"@", b"${TOKEN}", b"$${",
]  # fmt: skip

ENV: Final = {
    "TOKEN": SECRET,
    "PYROSCOPE_AUTH_TOKEN": SECRET,
    "GROWTHBOOK_CLIENT_KEY": SECRET,
    "GROWTHBOOK_DECRYPTION_KEY": SECRET,
    "LAUNCHDARKLY_SDK_KEY": SECRET,
    "SURROGATE": "a\udcffb",
    "LONG": "x" * 10_000,
}

_WITH_SECRETS: Final = f"""\
version: 1
application: checkout
source:
  kind: layers
  layers:
    - kind: growthbook
      client_key: {SECRET}
      decryption_key: "${{TOKEN}}"
      api_host: https://user:{SECRET}@cdn.example.com
    - {{kind: launchdarkly, sdk_key: "{SECRET}", relay: "http://{SECRET}@relay:8030"}}
backend:
  kind: pyroscope
  server_address: "http://user:{SECRET}@localhost:4040/push"
  http_headers: {{X-Key: {SECRET}, X-Other: "Bearer ${{TOKEN}}"}}
  basic_auth_username: user
  basic_auth_password: '{SECRET}'
enabled: {{flag: on, default: false}}
settings:
  sample_rate: {{flag: rate, default: 20, clamp: {{min: 1, max: 250}}}}
  upload_interval: 15
""".encode()

_FLAGS_WITH_SECRETS: Final = (
    f'{{"on": true, "rate": 97, "mode": "{SECRET}", "a": [{SECRET}], other: {SECRET}}}'.encode()
)

WANTED: Final = {"profiling_enabled": bool, "on": bool, "rate": int, "profiling_mode": str, "mode": str, "a": object}

_SECRET_PLACE: Final = re.compile(
    r"backend\.(auth_token|basic_auth_password|http_headers\.)"
    r"|source\.(layers\[\d+\]\.)?(client_key|decryption_key|sdk_key)\b"
)
_URL_PLACE: Final = re.compile(
    r"backend\.server_address|source\.(layers\[\d+\]\.)?(api_host|relay|base_uri|stream_uri)"
)


def corpus() -> list[bytes]:
    """The YAML files that are shipped, and those that stand in the documentation."""
    root = DOCS.parent
    files = [root / "config.example.yaml", *sorted((root / "examples").rglob("*.yaml"))]
    shown = [block.text for page in sorted(DOCS.rglob("*.md")) for block in blocks(page, "yaml")]
    return [*(file.read_bytes() for file in files), *(text.encode() for text in shown)]


# ---- sizes around the limits


class Growth(NamedTuple):
    """A document that grows by repeating a part; `{}` in it is the number of the repetition."""

    head: bytes
    part: str
    tail: bytes

    def of(self, size: int) -> bytes:
        """At most so many bytes, and as many as fit."""
        room = size - len(self.head) - len(self.tail)
        return self.head + self._parts(room) + self.tail

    def _parts(self, room: int) -> bytes:
        if "{}" not in self.part:
            return self.part.encode() * (room // len(self.part.encode()))
        parts: list[bytes] = []
        for number in itertools.count():
            part = self.part.replace("{}", f"{number:x}").encode()
            room -= len(part)
            if room < 0:
                break
            parts.append(part)
        return b"".join(parts)


_VALID: Final = b"version: 1\napplication: a\nenabled: {flag: f}\nbackend: {kind: pyroscope}\n"
_SOURCE: Final = b"source: {kind: yaml, path: f}\n"

GROWTHS: Final = [
    *(
        Growth(b"", part, b"")
        for part in (
            "\n", "#\n", " ", "\t", "\r", "\u2028", "\ufeff", "\0", "a", "a ", "9", "[", "{", "- ", "? ", ": ", "{a: ",
            "&a ", "*a\n", "!a ", "%A\n", "---\n", "k{}: 1\n", "k{}:\n", "k{}: {a: 1}\n", "k{}: ~\n", "- \n",
            "<<: {}\n", '"', "'", "|\n", "${A}", "k{}: ${A\n", "k{}: ${A{}}\n", "k{}: *a\n", "?\n", "a: 1\n", "é", "🙂",
        )
    ),
    *(
        Growth(b"a: " + head, part, tail)
        for head, part, tail in (
            (b"[", "1,", b"]"), (b"[", "[],", b"]"), (b"[", "[[]],", b"]"), (b"{", "{}: 1,", b"}"), (b"", " ", b"1"),
            (b'"', r"\x41", b'"'), (b'"', r"\U0001F642", b'"'), (b'"', r"\ud800", b'"'), (b"'", "''", b"'"),
            (b"|\n", " x\n", b""), (b">\n", " x\n", b""), (b"1", "0", b""), (b"0.", "0", b"1"), (b"0x", "f", b""),
            (b"1", ":1", b""), (b"1", "_", b""), (b"1.", "_", b"e"), (b"2024-01-01 ", " ", b"x"), (b"", "{<<: ", b"1"),
            (b"'", "${A}", b"'"), (b"'", "${LONG}", b"'"), (b"'", "$${", b"'"), (b"'", "${A", b"'"),
            (b"[x, &a [x]]\nb: ", "[*a,", b""), (b"[&a 1,", "*a,", b"]"),
        )
    ),
    *(
        Growth(_VALID + head, part, tail)
        for head, part, tail in (
            (b"source: {kind: layers, layers: [", "{kind: zaml},", b"]}\n"),
            (b"source: {kind: layers, layers: [", "{kind: yaml, path: f},", b"]}\n"),
            (b"source: {kind: layers, layers: [", "{kind: yaml},", b"]}\n"),
            (b"source: {kind: layers, layers: [", "{kind: 'a:b'},", b"]}\n"),
            (b"source: {kind: layers, layers: [", "1,", b"]}\n"),
            (b"source: {kind: yaml, path: '", "x/", b"'}\n"),
            (b"source: {kind: '", "x.", b":y'}\n"),
            (b"source: {kind: yaml, path: f, ", "pat{}: 1,", b"}\n"),
            (_SOURCE + b"tags: {", "{}: 1,", b"}\n"),
            (_SOURCE + b"tags: {", "{}: [],", b"}\n"),
            (_SOURCE, "enabl{}: 1\n", b""),
            (_SOURCE + b"settings: {", "sample_rat{}: 1,", b"}\n"),
            (_SOURCE + b"settings: {mode: {clamp: {choices: [", "gil,", b"]}}}\n"),
            (_SOURCE + b"settings: {mode: {clamp: {choices: [", "{},", b"]}}}\n"),
            (_SOURCE + b"policy: {resync: ", "1", b"s}\n"),
            (_SOURCE + b"policy: {", "resyn{}: 1,", b"}\n"),
            (_SOURCE + b"policy: {processes: ", "all", b"}\n"),
            (_SOURCE + b"instance: '", "${UNSET}", b"'\n"),
            (_SOURCE + b"tags: {", "{}: '${TOKE{}}',", b"}\n"),
        )
    ),
    *(
        Growth(_VALID.replace(b"pyroscope}\n", b"pyroscope, ") + head, part, tail + b"}\n" + _SOURCE)
        for head, part, tail in (
            (b"http_headers: {", "X{}: 1,", b"}"),
            (b"http_headers: {", "X{}_file: f,", b"}"),
            (b"http_headers: {", "X {}: 1,", b"}"),
            (b"auth_token: '", "x", b"'"),
            (b"server_address: 'http://", "a@", b"'"),
            (b"server_address: 'http://a", ":", b"'"),
            (b"", "auth_toke{}: 1,", b""),
        )
    ),
]  # fmt: skip


def around(largest: int) -> Iterator[tuple[Growth, int]]:
    """Each document at small sizes, at the largest that is allowed, and beyond it."""
    for growth in GROWTHS:
        for size in (500, largest // 10, largest, largest + 8):
            yield growth, size


# ---- mutations at random

Mutation = Callable[[bytes, random.Random], bytes]


def _at(data: bytes, draw: random.Random) -> int:
    return draw.randint(0, len(data))


def _span(data: bytes, draw: random.Random, longest: int = 60) -> tuple[int, int]:
    start = _at(data, draw)
    return start, min(len(data), start + draw.randint(1, longest))


def _flip(data: bytes, draw: random.Random) -> bytes:
    at = _at(data, draw)
    return data[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    start, end = _span(data, draw)
    return data[:start] + data[end:]


def _double(data: bytes, draw: random.Random) -> bytes:
    start, end = _span(data, draw, 200)
    return data[:end] + data[start:]


def _truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: _at(data, draw)]


def _insert(data: bytes, draw: random.Random) -> bytes:
    at = _at(data, draw)
    return data[:at] + draw.choice(_BYTES) + data[at:]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    at = _at(data, draw)
    return data[:at] + draw.choice(_BYTES) * draw.choice((2, 20, 21, 100, 1000)) + data[at:]


def _say_else(data: bytes, draw: random.Random) -> bytes:
    """Another word, value or key in the place of one."""
    words = list(re.finditer(rb"[\w.\"'{}/-]+", data))
    if not words:
        return data
    word = draw.choice(words)
    return data[: word.start()] + draw.choice(_WORDS).encode() + data[word.end() :]


def _lines(data: bytes, draw: random.Random) -> bytes:
    """A line elsewhere, twice, or further to one side."""
    lines = data.splitlines(keepends=True) or [b""]
    line = lines.pop(draw.randrange(len(lines)))
    ways = ([line], [line, line], [b"  " + line], [line.removeprefix(b"  ")], [b"#" + line], [line.rstrip(b"\r\n")])
    at = draw.randint(0, len(lines))
    return b"".join([*lines[:at], *draw.choice(ways), *lines[at:]])


def _wrap(data: bytes, draw: random.Random) -> bytes:
    opened, closed = draw.choice(((b"[", b"]"), (b"{a: ", b"}"), (b'"', b'"'), (b"{? ", b"}")))
    start, end = _span(data, draw)
    times = draw.choice((1, 2, 19, 20, 21))
    return data[:start] + opened * times + data[start:end] + closed * times + data[end:]


def _recode(data: bytes, draw: random.Random) -> bytes:
    text = data.decode(errors="replace")
    return text.encode(draw.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "latin-1", "utf-7")), "replace")


_MUTATIONS: Final[Sequence[Mutation]] = (
    _flip, _cut, _double, _insert, _insert, _repeat, _say_else, _say_else, _say_else, _lines, _lines, _wrap,
)  # fmt: skip
_RARE: Final[Sequence[Mutation]] = (_truncate, _recode)


class Inputs:
    """Owns the row of inputs for one reader: first those around its limits, then what `seed` and the number make."""

    def __init__(self, seeds: Sequence[bytes], largest: int, seed: int) -> None:
        self.seeds = seeds
        self._seed = seed
        self._around = list(around(largest))

    def __getitem__(self, number: int) -> bytes:
        if number < len(self._around):
            growth, size = self._around[number]
            return growth.of(size)
        draw = random.Random(f"{self._seed}:{number}")
        if draw.random() < 0.1:
            return b"".join(draw.choices(_BYTES, k=draw.randint(0, 40)))
        data = draw.choice(self.seeds)
        if draw.random() < 0.1:
            other = draw.choice(self.seeds)
            data = data[: _at(data, draw)] + other[_at(other, draw) :]
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            data = draw.choice(_MUTATIONS)(data, draw)
        return draw.choice(_RARE)(data, draw) if draw.random() < 0.1 else data


# ---- readers


class Reader(Protocol):
    """Reads one file. Its errors are counted as undocumented unless it deals with them."""

    largest: int

    def seeds(self) -> list[bytes]: ...

    def read(self, path: Path) -> Sequence[object]:
        """All that a person could get to see of it."""

    def misplaced(self, data: bytes) -> bool:
        """The secret stands where nobody can know it for one."""


class ConfigReader:
    """``load_config``."""

    largest = LARGEST_CONFIG

    def seeds(self) -> list[bytes]:
        return [*(each for each in corpus() if b"version:" in each), *[_WITH_SECRETS] * 5]

    def read(self, path: Path) -> Sequence[object]:
        try:
            config = load_config(path, env=ENV, third_party=True)
        except ConfigError as error:
            well_formed(error, path, path.read_bytes())
            return [str(error), error.problems]
        wiring = config.wire()
        options = [plugin.options for plugin in (*wiring.sources.values(), wiring.backend)]
        # Of a backend that takes any option nobody knows which are secret, and it never shows them.
        return [config, config.sections, wiring, *(each for each in options if not isinstance(each, dict))]

    def misplaced(self, data: bytes) -> bool:
        try:
            tree = interpolate(parse_yaml(data, ""), ENV, [])
        except ConfigError as error:
            # Shows the key that stands there twice.
            return any(each.found.startswith("the key ") for each in error.problems)
        return any(SECRET in text and not _is_secret(path, text) for path, text in _texts(tree, ""))


def _is_secret(path: str, text: str) -> bool:
    if _URL_PLACE.fullmatch(path):
        scheme, found, rest = text.partition("://")
        return SECRET not in (scheme + rest.rpartition("@")[2] if found else text.rpartition("@")[2])
    return _SECRET_PLACE.match(path) is not None


def _texts(node: Node, path: str) -> Iterator[tuple[str, str]]:
    """Each text with its path. A key is a text that stands nowhere."""
    if isinstance(node, Scalar):
        yield path, node.text
    elif isinstance(node, Items):
        for number, item in enumerate(node.items):
            yield from _texts(item, f"{path}[{number}]")
    else:
        for key, entry in node.entries.items():
            yield "", key
            yield from _texts(entry.node, f"{path}.{key}".removeprefix("."))


class FlagReader:
    """``YamlFileSource.read``, which asks ``parse_flags``."""

    largest = LARGEST_FLAGS

    def seeds(self) -> list[bytes]:
        return [*(each for each in corpus() if b"version:" not in each), *[_FLAGS_WITH_SECRETS] * 3]

    def read(self, path: Path) -> Sequence[object]:
        source = YamlFileSource(YamlFileOptions(path=FilePath(str(path))), Identity("a", "b", {}, 1))
        try:
            reading = source.read(WANTED)
        except SourceUnavailable as unavailable:
            return [str(unavailable)]
        assert isinstance(reading, Reading)
        assert reading.values.keys() <= WANTED.keys()
        assert reading.values.keys() == reading.reasons.keys()
        assert reading.errors.keys() <= reading.values.keys()
        return [dict(reading.reasons), dict(reading.errors)]

    def misplaced(self, data: bytes) -> bool:
        try:
            return any(SECRET in key for key in parse_yaml(data, "").entries)
        except ConfigError as error:
            return any(each.found.startswith("the key ") for each in error.problems)


def well_formed(error: ConfigError, path: Path, data: bytes) -> None:
    """Every problem has its place, fits on one line, and says what was found and expected. Raises AssertionError."""
    text = data.decode(errors="replace")
    # Unlike splitlines() that takes no memory.
    lines = sum(map(text.count, _BREAKS)) + (not text.endswith(_BREAKS))
    assert error.problems
    assert "\n".join(map(str, error.problems)) == str(error)
    for problem in error.problems:
        assert str(problem).isprintable(), problem
        assert str(problem).startswith(str(path)), problem
        assert problem.found, problem
        assert problem.expected, problem
        assert problem.place.column > 0 or problem.found == "nothing" or problem.found.startswith("more than"), problem
        assert problem.place.line <= lines + 1, problem


READERS: Final[Mapping[str, Callable[[], Reader]]] = {"config": ConfigReader, "flags": FlagReader}


# ---- what may come of it


class Fuzzer:
    """Owns one file that is written and read again and again, and the memory that this has taken so far."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self._reader = reader
        self._path = path
        self._allowed = float("inf")

    def warm_up(self, seeds: Sequence[bytes]) -> None:
        """Import and remember what only the first file needs."""
        for data in seeds:
            self.wrong(data)
        self._allowed = peak_memory() + MOST_MEMORY

    def wrong(self, data: bytes) -> str:
        """The fault in how this input is read, in a few words; empty if there is none."""
        self._path.write_bytes(data)
        began = time.thread_time()
        try:
            shown = self._reader.read(self._path)
        except BaseException as error:
            return f"{type(error).__name__} was raised: {error!r:.300}"
        took = time.thread_time() - began
        if took > LONGEST and (took := min(took, self._took(), self._took())) > LONGEST:
            return _COSTS[0]
        if peak_memory() > self._allowed:
            self._allowed = peak_memory() + MOST_MEMORY
            return _COSTS[1]
        text = "\n".join(each for it in shown for each in (str(it), repr(it)))
        return "showed a secret" if SECRET in text and not self._reader.misplaced(data) else ""

    def _took(self) -> float:
        began = time.thread_time()
        self._reader.read(self._path)
        return time.thread_time() - began

    def smaller(self, data: bytes, wrong: str) -> bytes:
        """The rest of the input when all has been cut out that makes no difference, with a bounded effort."""
        size, tries = len(data) // 2, 0
        while size and tries < _MOST_TRIES:
            start = 0
            while start < len(data) and tries < _MOST_TRIES:
                tries += 1
                shorter = data[:start] + data[start + size :]
                if self.wrong(shorter)[:20] == wrong[:20]:
                    data = shorter
                else:
                    start += size
            size //= 2
        return data


def peak_memory() -> int:
    """The most bytes that this process has ever had in memory."""
    # Linux hands ru_maxrss on to children: it would be that of the process that runs the tests.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "found no VmHWM in /proc/self/status; the fuzzing needs Linux"
    return int(found[1]) * 1024


def main(name: str, seed: int, first: int, count: int, path: Path) -> int:
    reader = READERS[name]()
    inputs = Inputs(reader.seeds(), reader.largest, seed)
    fuzzer = Fuzzer(reader, path)
    fuzzer.warm_up(inputs.seeds)
    failures = 0
    for number in range(first, first + count):
        data = inputs[number]
        wrong = fuzzer.wrong(data)
        if wrong:
            failures += 1
            small = data if wrong in _COSTS else fuzzer.smaller(data, wrong)
            again = f"python tests/fuzzing.py {name} {seed} {number} 1"
            print(f"{wrong}: {again}: {len(data)} bytes, made {len(small)}: {small!r:.{_MOST_SHOWN}}", flush=True)
        if failures == _MOST_FAILURES:
            break
    print(json.dumps({"read": number + 1 - first, "failures": failures, "peak": peak_memory()}), flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(sys.argv[5]) if len(sys.argv) > 5 else Path(folder, "file.yaml")
        sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), file))
