"""Flags from a Redis server: `rheostat_flagsources.redis.source`."""
