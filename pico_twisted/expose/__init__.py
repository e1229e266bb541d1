"""`picoctl http`, `tcp` and `file`: a developer's service, reachable through Pico for as long as a terminal is open."""
