"""What an operator sees: metrics, log lines, access lines."""
