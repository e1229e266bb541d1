"""Who holds which endpoint, and who gets the next request. Pure."""
