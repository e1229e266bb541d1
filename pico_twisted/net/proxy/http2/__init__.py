"""HTTP/2 on the proxy port: each stream is one more request of the port."""
