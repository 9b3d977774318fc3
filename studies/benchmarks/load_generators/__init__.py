"""Load generators side by side, in front of one server that keeps a record of when it did what."""
