"""A cluster in network namespaces: what loopback cannot do, such as packets that are lost and wires that break."""
