"""The UDP side of the gossip port, its metrics, and the addresses of seeds."""
