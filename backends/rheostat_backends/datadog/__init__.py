"""Datadog's profiler (``ddtrace``) as a backend: `rheostat_backends.datadog.backend`."""
