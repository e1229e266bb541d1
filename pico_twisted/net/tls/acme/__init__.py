"""Certificates from an ACME server (RFC 8555): ordered and renewed in a thread, and kept in files.

`order` does one order, with the library of certbot; `renewal` says when, and waits after failures. The certificate goes
into a file of `storage`, and comes into use as every file that changes does: the ports know nothing of ACME.
`challenges` answers what the server asks to see whose the names are; what is to be answered is told to all nodes, as
any of them may be asked.
"""
