"""Ask/tell planners over a space."""
