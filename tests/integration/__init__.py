"""Parts of a node and of agents in this process, joined over loopback."""
