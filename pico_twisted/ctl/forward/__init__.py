"""`picoctl forward`: ports of this machine that lead to TCP endpoints."""
