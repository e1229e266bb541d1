"""What two nodes say over the link between them, from the handshake to a relayed request."""
