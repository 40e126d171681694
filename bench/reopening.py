"""Many cycles of opening and closing a flag source: what is left behind.

One child for each product, side by side. In each cycle a source is built, opened, read until it has flags and its
stream is there, and closed, after which the product has to see that it has gone. Threads, descriptors, sockets among
them and exit handlers are counted after the first cycles and after the last.
"""

import atexit
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from .child import run, side_by_side
from .products import OPENFEATURE, PRODUCTS, Product, Sourced, product
from .row import Row
from .stage import folder

_FIRST: Final = 5
"""Cycles after which everything has been imported and begun once."""
_SETTLED: Final = 0.5


class Left(NamedTuple):
    """How many there are."""

    threads: int
    descriptors: int
    sockets: int
    exit_handlers: int


def rows(quick: bool) -> list[Row]:
    cycles = 30 if quick else 100
    with folder() as where:
        more = side_by_side(*(partial(run, measure, where / name, name, cycles) for name in PRODUCTS))
    return [_row(name, cycles, each) for name, each in zip(PRODUCTS, more, strict=True)]


def _row(name: str, cycles: int, more: Left) -> Row:
    row = Row.of(
        f"{cycles} cycles of open and close, {name}: more threads, descriptors, sockets, exit handlers",
        max(more),
        0,
        limit=0,
        note="the naive thread never closes its client",
    )
    return row._replace(rheostat=", ".join(map(str, more)), naive="")


def measure(where: Path, name: str, cycles: int) -> Left:
    with product(name) as flags:
        if name == OPENFEATURE:
            from .provider import fill_pool

            fill_pool()
        for _ in range(_FIRST):
            _cycle(where, name, flags)
        before = _left()
        for _ in range(cycles):
            _cycle(where, name, flags)
        after = _left()
    return Left(*(most - least for most, least in zip(after, before, strict=True)))


def _cycle(where: Path, name: str, flags: Product) -> None:
    sourced = Sourced(where, name, flags.url)
    sourced.open()
    flags.wait_for_streams(1)
    sourced.source.close()
    flags.wait_for_streams(0)


def _left() -> Left:
    """Once threads that are just ending have ended."""
    time.sleep(_SETTLED)
    open_files = [_target(descriptor) for descriptor in os.listdir("/proc/self/fd")]
    return Left(
        len(os.listdir("/proc/self/task")),
        len(open_files),
        sum(target.startswith("socket:") for target in open_files),
        atexit._ncallbacks(),
    )


def _target(descriptor: str) -> str:
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""
