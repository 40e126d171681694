"""Feature flag products on loopback: servers that speak their real protocols, and misbehave when told to."""
