"""TLS of all ports and of outgoing connections, and words for why it failed."""
