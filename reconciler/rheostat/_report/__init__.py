"""How Rheostat accounts for itself: the journal and the status."""
