"""The command lines of the two daemons: flags, their help, and what is said at the start."""
