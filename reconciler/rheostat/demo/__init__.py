"""The parts of the demo: servers that run on loopback, so that Rheostat can be tried without an account."""
