"""The live page of an admin port: what people see of a node and its cluster in a browser."""
