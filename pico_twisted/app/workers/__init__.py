"""Several processes that share the ports of one host."""
