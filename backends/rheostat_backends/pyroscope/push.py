"""Pyroscope's push: a list of profiles in the format of pprof, each with its labels."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


class PushedProfile(NamedTuple):
    """Its labels, such as `__name__` (`process_cpu`, `memory`), and the profile, uncompressed."""

    labels: Mapping[str, str]
    pprof: bytes


def pushed_profiles(push: bytes) -> Iterator[PushedProfile]:
    """Those of a `push.v1.PushRequest`. Raises ValueError if it is none.

    Read by hand, so that a process needs no protobuf for them: its versions are what applications disagree upon.
    """
    for number, series in _parts(push):
        if number == 1:
            parts = list(_parts(series))
            labels = dict(_label(part) for number, part in parts if number == 1)
            for number, sample in parts:
                if number == 2:
                    yield from (PushedProfile(labels, each) for number, each in _parts(sample) if number == 1)


def _label(pair: bytes) -> tuple[str, str]:
    fields = dict(_parts(pair))
    return fields.get(1, b"").decode(), fields.get(2, b"").decode()


def _parts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The number and the content of each field that has its length before it; others are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a push that is cut off")
            yield key >> 3, message[at : at + length]
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("no push: a field of an unknown kind")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("no push: a number without an end")
