"""Scripted agents: fixed rules, honest about it. Standard library only: they run inside the sandbox."""
