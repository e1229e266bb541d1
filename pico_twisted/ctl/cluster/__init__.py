"""`picoctl cluster`: makes all that the nodes of a new cluster and its agents need."""
