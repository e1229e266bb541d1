"""A WebSocket server that sends back what it gets, compressed if its client likes that, for `run`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from autobahn.asyncio.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


def _accept(offers: Iterable[object]) -> PerMessageDeflateOfferAccept | None:
    taken = [offer for offer in offers if isinstance(offer, PerMessageDeflateOffer)]
    return PerMessageDeflateOfferAccept(taken[0]) if taken else None


async def main(port: int) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    factory = WebSocketServerFactory(loop=loop)
    factory.protocol = Echo
    factory.setProtocolOptions(perMessageCompressionAccept=_accept, utf8validateIncoming=True)
    server = await loop.create_server(factory, "127.0.0.1", port)
    print("listens", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
