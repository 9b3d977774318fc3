"""Floor 0: turn a config into a running server, and end it without a trace."""
