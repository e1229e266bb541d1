"""Links to other nodes: dialling, handshakes and TLS, and what the other node asks for over them."""
