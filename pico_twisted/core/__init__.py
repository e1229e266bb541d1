"""What decides: bytes, events and the time go in, bytes and events come out. No input or output happens here."""
