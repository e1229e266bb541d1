"""`picoctl service`: makes a node or an agent a service of the machine, under systemd, and takes it away."""
