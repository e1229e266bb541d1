"""The agent: registers endpoints with the cluster, and forwards what comes for them to local services."""
