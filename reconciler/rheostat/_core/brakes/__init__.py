"""The brakes: what keeps profiling off whatever the flags say, a module for each concern."""
