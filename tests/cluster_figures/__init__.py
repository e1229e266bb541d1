"""Measures how quickly a cluster of real nodes notices what happens to it."""
