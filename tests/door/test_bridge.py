"""Protocols of asyncio on transports of Twisted: what asyncio promises them holds."""

from __future__ import annotations

import asyncio

import pytest

from pico_twisted.door.asyncio_bridge import Bridge
from pico_twisted.net.socket.memory import FULL_BYTES
from tests.net.socket.test_memory import CLIENT, SERVER, Halves, Pair


class Served(asyncio.Protocol):
    """Keeps what it is told.

    Args:
        stays: what it says to the end of its peer's stream.
    """

    transport: asyncio.Transport

    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.data = b""
        self.told: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc and type(exc))


def bridged(served: Served, *, secure: bool = False) -> Pair:
    """A client of Twisted, connected to a protocol of asyncio."""
    return Pair(Halves(), Bridge(lambda: served), secure=secure)


@pytest.mark.parametrize("secure", [False, True])
def test_the_connection_is_told(secure: bool) -> None:
    """Its addresses, and whether the client came over TLS."""
    served = Served()
    bridged(served, secure=secure)
    told = served.transport.get_extra_info
    assert told("peername") == (CLIENT.host, CLIENT.port)
    assert told("sockname") == (SERVER.host, SERVER.port)
    assert bool(told("sslcontext")) is secure
    assert told("socket") is None


def test_a_slow_client_pauses_the_writer() -> None:
    """And it goes on when the client has read all."""
    served = Served()
    pair = bridged(served)
    pair.client.transport.pauseProducing()
    served.transport.writelines([b"w" * FULL_BYTES, bytearray(b"w"), memoryview(b"w")])
    pair.turn()
    assert served.told == ["pause"]
    assert served.transport.get_write_buffer_size() == FULL_BYTES + 2
    pair.client.transport.resumeProducing()
    pair.turn()
    assert served.told == ["pause", "resume"]
    assert len(pair.client.data) == FULL_BYTES + 2


def test_a_reader_may_pause() -> None:
    """What comes waits meanwhile."""
    served = Served()
    pair = bridged(served)
    served.transport.pause_reading()
    assert not served.transport.is_reading()
    pair.client.transport.write(b"later")
    pair.turn()
    assert served.data == b""
    served.transport.resume_reading()
    pair.turn()
    assert served.data == b"later" and served.transport.is_reading()


def test_the_end_of_a_stream() -> None:
    """A protocol that wants to go on does; the connection of another one closes, behind what it wrote."""
    stays = Served(stays=True)
    pair = bridged(stays)
    pair.client.transport.loseWriteConnection()
    pair.turn()
    assert stays.told == ["eof"] and not stays.transport.is_closing()
    stays.transport.write(b"still here")
    stays.transport.write_eof()
    pair.turn()
    assert pair.client.data == b"still here" and "read" in pair.client.told
    stays.transport.close()
    stays.transport.write(b"too late")
    pair.turn()
    assert stays.told == ["eof", None] and pair.client.data == b"still here"
    leaves = Served()
    pair = bridged(leaves)
    leaves.transport.write(b"bye")
    pair.client.transport.loseWriteConnection()
    pair.turn()
    assert leaves.told == ["eof", None] and pair.client.data == b"bye"


def test_a_lost_connection() -> None:
    """A cut is an error, whoever did it."""
    served = Served()
    pair = bridged(served)
    pair.client.transport.abortConnection()
    pair.turn()
    assert served.told == [ConnectionResetError]
    served = Served()
    pair = bridged(served)
    served.transport.abort()
    pair.turn()
    assert served.told == [ConnectionResetError] and pair.client.reason is not None


def test_another_protocol_takes_over() -> None:
    """As uvicorn does for a WebSocket."""
    served, successor = Served(), Served()
    pair = bridged(served)
    served.transport.set_protocol(successor)
    successor.connection_made(served.transport)
    assert served.transport.get_protocol() is successor
    pair.client.transport.write(b"frames")
    pair.client.transport.loseConnection()
    pair.turn()
    assert (served.data, successor.data, successor.told) == (b"", b"frames", ["eof", None])
