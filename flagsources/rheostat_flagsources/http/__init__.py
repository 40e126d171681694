"""Flags from any HTTP endpoint that gives a document: `rheostat_flagsources.http.source`."""
