"""From flag values to the next step: pure, without thread, clock or file."""
