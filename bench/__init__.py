"""What Rheostat costs, measured beside the naive polling thread: ``make bench``."""
