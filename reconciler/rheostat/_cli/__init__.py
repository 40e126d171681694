"""The command ``rheostat``."""
