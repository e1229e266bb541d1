"""Commands that look at what goes on in a cluster: events, requests as they end, one request, and how busy all is."""
