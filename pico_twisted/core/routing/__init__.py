"""Where an endpoint is: its ID, the registrations of this node, the table of the other nodes."""
