"""How long a process takes to end when the flag product hangs.

Children whose source never gets an answer, since the server accepts and never answers, and children whose server falls
silent once they are connected; OpenFeature's provider asks the server for each evaluation, without a timeout. The naive
thread makes the SDK's client, as its documentation does, and asks it. The clock runs from the end of the child's main
code until the child has gone. All run side by side: they wait.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from .child import Ended, run_to_end, side_by_side
from .products import OPENFEATURE, PRODUCTS, SERVED, Server, client, section, server
from .row import Row, show
from .stage import NOBODY, Stage, folder, hung_server

_LASTS: Final = 4.0
"""Seconds that a child does, from its start to the end of its main code."""
_STARTED: Final = 2.0
_SETTLED: Final = 0.5
_BOUND: Final = 15.0
_DEADLINE: Final = 2.0
"""Seconds, of the configuration: `exit_deadline`."""


class Case(NamedTuple):
    """`answers` tells whether the server has answered before it hangs."""

    name: str
    url: str
    answers: bool


def rows(quick: bool) -> list[Row]:
    within = _STARTED + _LASTS + _BOUND
    with folder() as where, hung_server() as hung, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        servers = {name: stack.enter_context(server(name)) for name in SERVED}
        cases = [Case(name, hung, False) for name in PRODUCTS]
        cases += [Case(name, each.url, True) for name, each in servers.items()]
        falling_silent = pool.submit(_fall_silent, list(servers.values()))
        ended = side_by_side(
            *(partial(run_to_end, with_rheostat, where / str(i), *case, within=within) for i, case in enumerate(cases)),
            *(partial(run_to_end, with_naive, *case, within=within) for case in cases),
        )
        falling_silent.result()
    rheostat, naive = ended[: len(cases)], ended[len(cases) :]
    return [_row(name, _of(name, cases, rheostat), _of(name, cases, naive)) for name in PRODUCTS]


def _fall_silent(servers: Sequence[Server]) -> None:
    """Once both sides are connected, and have their flags too."""
    for each in servers:
        each.wait_for_streams(2)
    time.sleep(_SETTLED)
    for each in servers:
        each.hang()


def _of(name: str, cases: Sequence[Case], ended: Sequence[Ended[None]]) -> list[Ended[None]]:
    return [each for case, each in zip(cases, ended, strict=True) if case.name == name]


def _row(name: str, rheostat: Sequence[Ended[None]], naive: Sequence[Ended[None]]) -> Row:
    row = Row.times(
        f"exit delay, flag product hangs, {name}",
        max(each.delay for each in rheostat),
        max(each.delay for each in naive),
        most=1.0,
        yardstick=_DEADLINE,
        called="exit_deadline",
        unit="s",
        note=f"never an answer, then silence once connected: {_each(rheostat)}; the naive thread: {_each(naive)}"
        if len(rheostat) > 1
        else "",
    )
    return row._replace(naive=f"over {show(_BOUND, 's')}: killed") if _is_killed(naive) else row


def _each(ended: Sequence[Ended[None]]) -> str:
    return " and ".join(show(each.delay, "s") for each in ended)


def _is_killed(ended: Sequence[Ended[None]]) -> bool:
    return any(each.killed for each in ended)


def with_rheostat(where: Path, name: str, url: str, answers: bool) -> None:
    import rheostat

    end = time.monotonic() + _LASTS
    _provide(name, url)
    reconciler = rheostat.start(Stage(where, source=section(name, url)).config, strict=True)
    time.sleep(end - time.monotonic())
    if reconciler.status().source.available != answers:
        raise RuntimeError(f"not as it should be: {reconciler.status().source}")


def with_naive(name: str, url: str, answers: bool) -> None:
    end = time.monotonic() + _LASTS
    _provide(name, url)
    # The client is made in the thread: the application's start would have to wait for it.
    threading.Thread(target=_poll, args=(name, url), daemon=True).start()
    time.sleep(end - time.monotonic())


def _poll(name: str, url: str) -> None:
    from .naive import NaiveThread

    NaiveThread(client(name, url), NOBODY).run()


def _provide(name: str, url: str) -> None:
    if name == OPENFEATURE:
        from .provider import HungProvider

        HungProvider.set(url)
