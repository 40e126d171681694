"""Whatever happens, in any order, the invariants hold."""

import time
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from rheostat.testing import Profiling

NIGHT: Final = 20 * 60.0
"""Seconds of search."""

EXAMPLES: Final = settings(max_examples=300, stateful_step_count=100)

TestProfiling = Profiling.TestCase
TestProfiling.settings = EXAMPLES
# Should it fail, shrinking the example to a story takes minutes.
TestProfiling.pytestmark = [pytest.mark.timeout(600)]


@pytest.mark.soak
@pytest.mark.timeout(NIGHT + 600)
def test_a_night_of_search(record_property: Callable[[str, object], None]) -> None:
    """Examples that are new each time, for twenty minutes."""
    until, rounds = time.monotonic() + NIGHT, 0
    while time.monotonic() < until:
        run_state_machine_as_test(Profiling, settings=settings(EXAMPLES, derandomize=False, database=None))
        rounds += 1
    record_property("examples", rounds * EXAMPLES.max_examples)
