"""The flag sources that ship with Rheostat: one module for each, imported only if a configuration names it.

PYTEST_DONT_REWRITE: pytest warns of a distribution's package that is imported before it can be rewritten.
"""
