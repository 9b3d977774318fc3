"""Floor 1: workload, load, measurement, validity, score; and the ledger that search and agents share."""
