"""Clients of kolus beside other pools, before real servers: C{python -m tests.bench.peers}."""
