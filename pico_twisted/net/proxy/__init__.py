"""The proxy port: HTTP/1.1 for the proxy clients."""
