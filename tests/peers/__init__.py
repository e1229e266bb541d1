"""Peers of the tunnel's protocol for tests, written from its description alone.

Nothing here imports the product: these are second implementations, made to check the first. They use plain blocking
sockets and threads, so that a test decides about every byte, every fragment and every way to hang up.
"""
