"""HTTP/2 without sockets: bytes in, events out (RFC 9113)."""
