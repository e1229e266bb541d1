"""WebSocket without a socket: the handshake of a server, and frames of both roles (RFC 6455)."""
