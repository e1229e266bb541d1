"""A request on its way through a node: who gets it, the pending call, and the forwarding of its two streams."""
