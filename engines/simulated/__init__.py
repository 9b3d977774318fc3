"""A simulated engine: a real HTTP server whose speed follows a documented model. Never a measurement."""
