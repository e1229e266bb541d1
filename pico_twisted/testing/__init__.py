"""Fakes for tests of what is built on Pico: a tunnel without a connection, links and a pump that join two sessions, and
the parts of a node with short deadlines. Nothing in the package itself imports them."""
