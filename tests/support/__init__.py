"""What tests share: processes, servers, products and their faults."""
