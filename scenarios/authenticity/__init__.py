"""Whether the answers of a speed run come from the model: a sample is held against the model itself."""
