"""From the start of Rheostat in a process to its end, across forks."""
