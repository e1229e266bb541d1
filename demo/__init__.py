"""`make demo`: a request through a tunnel, with real processes."""
