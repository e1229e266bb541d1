"""The programs of docs/python.md, run as that page says: see `run.py`."""
