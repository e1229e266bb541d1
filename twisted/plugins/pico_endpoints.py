"""What Twisted finds: `pico:` in strings of endpoints."""

from pico_twisted.door.strings import PicoClientParser, PicoServerParser

pico_server = PicoServerParser()
pico_client = PicoClientParser()
