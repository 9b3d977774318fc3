"""Floor 2: arrive at a server by a coding agent, under the same budget and scorer as search."""
