"""What is asked of sockets beyond Twisted: options, connecting."""
