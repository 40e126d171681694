"""Living in a process that is not ours: threads, forks, exits, imports. Knows neither flags nor profilers."""
