"""Floor 3: the command line, study files, comparison and report."""
