"""`picoctl bench`: measures a cluster from outside, with agents, services and clients of its own in one process.

`command` and `plan` read the command line and know no framework; `run` and what stands below it is Twisted's, and is
imported only when there is something to measure. Layers, from the top: `command`, `report` and `plot`; `run`; `load`
(who may send when) and `agents` (who registers); `clients`, `websocket` and `echo` (bytes); `record`, `latencies` and
`frames` (no framework).
"""
