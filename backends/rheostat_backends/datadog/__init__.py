"""Datadog's continuous profiler (``ddtrace``) as a backend: `rheostat_backends.datadog.backend`."""

from rheostat_backends.datadog.backend import DatadogBackend as DatadogBackend
from rheostat_backends.datadog.backend import DatadogOptions as DatadogOptions
