"""A flag source of Rheostat's: flags from any HTTP endpoint that gives a JSON object."""
