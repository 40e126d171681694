"""Loaded by pytest wherever Rheostat is installed: makes the kits' assertions show what they compared."""

import pytest

# One by one: the package itself has been imported by now, of which some versions of pytest warn.
pytest.register_assert_rewrite(
    *(
        f"rheostat.testing.{module}"
        for module in (
            "backend_contract",
            "backend_under_test",
            "calling_thread",
            "flagsource_contract",
            "model",
            "oracle",
            "own_process",
            "resources",
            "simulation",
            "source_under_test",
            "statemachine",
        )
    )
)
