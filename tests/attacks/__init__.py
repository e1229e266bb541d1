"""Attacks on parsers that were published from 2019 to 2026, as bytes: of clients, and of services.

What they have in common: two programs in a row read the same bytes as different messages. So a case passes when all
that see it agree, and one that nginx or HAProxy refuse is refused, unless `exceptions.py` says why not.

Sources of the forms, not of the bytes: RFC 9112 section 11; James Kettle's "HTTP desync attacks" (2019), "Browser-
powered desync attacks" (2022) and "HTTP/1.1 must die" (2025: 0.CL, obfuscated Expect, double desync); Jeppe Bonde
Weikop's "Funky chunks" (2025: chunk extensions and terminators); the HTTP Garden of Ben Kallus and Prashant
Anantharaman (2024); Martin Doyhenard's "Response smuggling" (2021) and "Gotta cache 'em all" (2024: delimiters).
"""
