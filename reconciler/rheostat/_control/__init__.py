"""The control loop: looks at the flags, calls the backend, remembers."""
