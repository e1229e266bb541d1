"""The live page of the admin port, in a browser."""
