"""picoctl snapshot: all that somebody who helps needs to see of a cluster, in one file."""
