"""What is asked of sockets beyond Twisted: options, connecting, and writing once a turn."""
