"""RPC: calls, each two byte streams, carried as frames over one WebSocket. Pure: see `session`."""
