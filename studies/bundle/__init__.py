"""Wheels, models and texts in parts for a host that reaches nothing, and what unpacks them there."""
