"""Floor 2: arrive at a server by search."""
