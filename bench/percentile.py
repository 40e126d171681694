"""The value that a given part of all values does not exceed."""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that is no less than `part` (0 to 1) of them."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
