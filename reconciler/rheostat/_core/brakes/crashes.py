"""Settings with which a process has died again and again, soon after its profiler had started."""

from typing import Final

from rheostat._core.case import Brake, Case
from rheostat._core.desired import same_settings
from rheostat._core.policy import CRASHES


def _word(case: Case) -> str | None:
    most, settings = case.number(CRASHES), case.flags.desired.settings
    crashes = sum(same_settings(each, settings) for each in case.facts.crashes)
    if not most or not case.flags.desired.on or crashes < most:
        return None
    return (
        f"{crashes} processes died soon after a start with these settings; "
        "other settings, or off and on again, begin anew"
    )


CRASHED: Final = Brake(
    "crash_guard",
    "crash guard",
    _word,
    "the flags have changed since the crashes",
    is_used=lambda case: case.uses(CRASHES),
)
