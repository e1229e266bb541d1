"""Whether a server of HTTP/2 does what RFC 9113 and RFC 7541 ask of it: the cases of h2spec, written anew.

`run.py` shows them to a node, `test_conformance.py` to the engine in memory. Each case has the number that h2spec 2.6
gives it. h2spec itself differs in two verdicts on a node. It wants an RST_STREAM where the window of a stream
overflows (http2/6.9.1/3), and gets the connection error that libnghttp2 makes of it, as RFC 9113 5.4 lets it. And its
"invalid connection preface" (http2/3.5/2) looks like a request of HTTP/1.1, which a plain port answers as such.
"""
