"""Masks: what they do to bytes, and which of them lie on the frames of an agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.utils import apply_mask

from pico_twisted.core.rpc.capabilities import ZERO_MASKS
from pico_twisted.core.rpc.frames import HTTP
from pico_twisted.net.tunnel import websocket_pipe
from pico_twisted.net.tunnel.websocket_pipe import lay_mask
from tests.doubles.service import Receiver
from tests.net.tunnel.tunnel_peers import GET
from tests.net.tunnel.websockets import RawPeer, TunnelPair
from tests.peers.websocket import masked

ANSWER = b"a" * 50


def answered(pair: TunnelPair) -> bytes:
    """The frame with which the agent answers a call, which comes whole."""
    pair.flush()
    receiver = Receiver().open(pair.node, HTTP, GET, True)
    pair.flush()
    pair.agent_end.clear()
    pair.acceptor.accepted[0].send(ANSWER, True)
    frame = bytes(pair.agent_end.taken)
    pair.flush()
    assert bytes(receiver.data) == ANSWER
    return frame


class TestBytes:
    """The mask on bytes."""

    @given(st.binary(min_size=4, max_size=4), st.binary(max_size=600))
    def test_any(self, mask: bytes, data: bytes) -> None:
        """Each byte gets one of the four, in turn; the second time takes them off; and what was given stays."""
        before = bytes(bytearray(data))
        laid = lay_mask(mask, data)
        assert laid == masked(data, mask) and type(laid) is bytes
        assert lay_mask(mask, laid) == data == before

    @pytest.mark.parametrize("size", [0, 65_537, 1_000_003])
    def test_sizes(self, size: int) -> None:
        """Of any size, it is the same."""
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert lay_mask(b"\x01\x80\xff\x7e", data) == masked(data, b"\x01\x80\xff\x7e")

    def test_without_c(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is the same where `websockets` was built without its code in C, on the way of an answer too."""
        data = bytes(range(251)) * 300
        with_c = lay_mask(b"\x01\x80\xff\x7e", data)
        monkeypatch.setattr(websocket_pipe, "apply_mask", apply_mask)
        assert lay_mask(b"\x01\x80\xff\x7e", data) == with_c
        answered(TunnelPair())


class TestZeros:
    """A mask of zeros hides nothing, so it is for those whom TLS hides."""

    def test_tls(self) -> None:
        """Over TLS from end to end, an agent's frames have a mask of zeros: they are masked, and cost nothing."""
        frame = answered(TunnelPair(tls=("node", "agent")))
        assert frame[1] & 0x80 and frame[2:6] == bytes(4) and frame.endswith(ANSWER)

    @pytest.mark.parametrize("tls", [(), ("agent",), ("node",)])
    def test_not_tls(self, tls: tuple[str, ...]) -> None:
        """Without TLS, and where somebody in between takes it off or lays it on, masks hide what an agent sends."""
        pair = TunnelPair(tls=tls)
        frame = answered(pair)
        assert frame[1] & 0x80 and frame[2:6] != bytes(4) and ANSWER not in frame
        assert (ZERO_MASKS in pair.agent.capabilities) == (tls == ("node",))

    def test_old_node(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A node that does not list them gets real masks over TLS, too."""
        monkeypatch.setattr("pico_twisted.net.tunnel.server.own_capabilities", lambda transport: {})
        assert ANSWER not in answered(TunnelPair(tls=("node", "agent")))

    def test_who_says_so(self, peer: RawPeer) -> None:
        """A node says on a plain connection that it takes everything but these."""
        (listed,) = [line for line in peer.answer.split(b"\r\n") if line.lower().startswith(b"x-pico-capabilities")]
        assert ZERO_MASKS not in listed and b"trailers" in listed
