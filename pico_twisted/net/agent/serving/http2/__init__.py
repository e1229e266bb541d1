"""Services that speak HTTP/2: one connection that all calls of a listener share, each as a stream."""
