"""HTTP/1.1 as bytes: heads read by one grammar, bodies framed by us, and heads written for the next hop.

`head` parses one head, `server` and `client` read whole messages from a connection's bytes, `forwarding` writes the
heads that go on. Nothing here calls out; see RFC 9110 (semantics) and RFC 9112 (HTTP/1.1).
"""
