"""Programs that people use, through one node and through two."""
