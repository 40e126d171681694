"""The tests' common means: processes, servers, products and their faults."""
