"""Malformed traffic of every kind, for as long as one likes: `run.py`, called by `make fuzz`."""
