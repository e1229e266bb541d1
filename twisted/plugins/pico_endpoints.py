"""What Twisted finds: `pico:` in strings of endpoints."""

from pico_twisted.door.strings import PicoServerParser

pico_server = PicoServerParser()
