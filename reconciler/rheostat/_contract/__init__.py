"""The contract with plug-ins: each module is something that flag sources and backends are made of."""
