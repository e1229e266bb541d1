"""The calls of one listener, served by a local service."""
