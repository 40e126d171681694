"""The flag sources that ship with Rheostat: one module for each, imported only if a configuration names it."""
