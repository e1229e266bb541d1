"""`picoctl bench`: measures a cluster from outside, with agents, services and clients of its own in one process.

`command` and `plan` read the command line and know no framework; `run` and what stands below it is Twisted's, and is
imported only when there is something to measure. Layers, from the top: `command` and `report`; `run`; `traffic` (who
may send when) and `agents` (who registers); `clients` and `echo` (bytes); `places`; `record`, `latencies` and
`messages` (no framework).
"""
