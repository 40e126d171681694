"""A backend of Rheostat's: memray, whose profiles are files in a folder."""
