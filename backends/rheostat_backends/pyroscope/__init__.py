"""The Pyroscope agent (``pyroscope-io``) as a backend: `rheostat_backends.pyroscope.backend`."""
