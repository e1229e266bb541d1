"""Whether a server of HTTP/2 does what RFC 9113 and RFC 7541 ask of it: the cases of h2spec, written anew.

`run.py` shows them to a node, `test_conformance.py` to the engine in memory. A case has the number that h2spec gives it.
"""
