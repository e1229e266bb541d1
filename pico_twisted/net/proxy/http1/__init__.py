"""HTTP/1.1 and 1.0 on the proxy port: one request after the other on a connection."""
