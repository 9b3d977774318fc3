"""Benchmarks of Ceiling itself, each a program that reproduces the figures in the docs."""
