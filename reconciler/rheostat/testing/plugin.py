"""Loaded by pytest wherever Rheostat is installed: makes the kits' assertions show what they compared."""

import pytest

pytest.register_assert_rewrite("rheostat.testing")
