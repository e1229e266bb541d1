"""The pages of the documentation: their blocks, who runs what is in them, and `make docs-commands`."""
