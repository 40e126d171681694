"""A pytest plugin: only the patched core is tested, and the first example that fails is enough."""

import os

from hypothesis import Phase, settings

import rheostat

if not rheostat.__file__.startswith(os.environ["RHEOSTAT_MUTATED"]):
    raise RuntimeError(f"found rheostat in {rheostat.__file__}, expected it in {os.environ['RHEOSTAT_MUTATED']}")

# tests/conftest.py derives its profiles from the one that is loaded.
settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate])
settings.load_profile("unshrunk")
