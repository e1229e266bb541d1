"""Nodes, agents and other programs as real processes of this machine: started, watched, asked, and ended.

The demo, the benchmarks and all tests that need processes stand on it. From below: `waiting` (conditions with a
deadline), `kernel` (what Linux knows of a process), `ports`, `asking` (HTTP, and admin ports), `certificates`,
`forking` (daemons that start quickly), `processes`, `nodes` (nodes and agents), `stage` (all of a run together),
`report` (parts of a run, and its figures).
"""
