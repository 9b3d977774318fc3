"""Search policies raced against one another in virtual time: no server, no waiting, the real search code.

python -m studies.benchmarks.search_policies --help
"""
