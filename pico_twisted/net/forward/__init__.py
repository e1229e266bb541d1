"""The client of TCP endpoints: it opens WebSockets at proxy ports, and forwards connections of this machine to them."""
