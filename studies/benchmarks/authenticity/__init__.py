"""How well answers from elsewhere are told from those of a lossy but honest server.

python -m studies.benchmarks.authenticity --help
"""
