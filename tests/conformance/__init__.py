"""Whether a server of HTTP/2 does what RFC 9113 and RFC 7541 ask of it: the cases of h2spec, written anew.

`run.py` shows them to a node, `test_conformance.py` to the engine in memory. Each case has the number that h2spec 2.6
gives it. h2spec itself differs in one verdict on a plain port of a node: its "invalid connection preface" (http2/3.5/2)
looks like a request of HTTP/1.1, which such a port answers as that.
"""
