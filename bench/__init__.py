"""The cost of Rheostat, measured beside the naive polling thread: ``make bench``."""
