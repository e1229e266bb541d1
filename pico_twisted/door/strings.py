"""`pico:` in endpoint strings: the parsers that Twisted's plugins name.

Twisted asks every plugin for its prefix whenever it reads an endpoint string, of whatever kind. So nothing is imported
here that costs time, or that would install a reactor; the endpoints come with their imports when one is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from pico_twisted.door.settings import EndpointSettings

SERVER_OPTIONS: Final = ("url", "token", "token_file", "ca", "protocol")
"""What may be said of an endpoint to listen at, behind its ID."""
CLIENT_OPTIONS: Final = ("url", "token", "token_file", "ca")
"""What may be said of one to connect to."""


@implementer(IPlugin, IStreamServerEndpointStringParser)
class PicoServerParser:
    """Reads `pico:ENDPOINT[:url=URL][:token_file=FILE][:token=TOKEN][:ca=FILE][:protocol=http|tcp]`."""

    prefix: ClassVar[str] = "pico"

    # Any: a whole reactor. Twisted's types want more than texts to be taken, which is all that a string has.
    def parseStreamServer(  # type: ignore[override]
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamServerEndpoint:
        """Called by Twisted for a string with our prefix.

        Raises:
            ValueError: what the string says is not of an endpoint, or not one that can be used.
        """
        from pico_twisted.door.server_endpoint import PicoServerEndpoint

        return PicoServerEndpoint(reactor, _settings(args, kwargs, SERVER_OPTIONS))


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class PicoClientParser:
    """Reads `pico:ENDPOINT[:url=URL][:token_file=FILE][:token=TOKEN][:ca=FILE]`."""

    prefix: ClassVar[str] = "pico"

    # As above.
    def parseStreamClient(  # type: ignore[override]
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamClientEndpoint:
        """Called by Twisted for a string with our prefix.

        Raises:
            ValueError: what the string says is not of an endpoint, or not one that can be used.
        """
        from pico_twisted.door.client_endpoint import PicoClientEndpoint

        return PicoClientEndpoint(reactor, _settings(args, kwargs, CLIENT_OPTIONS))


def _settings(args: tuple[str, ...], options: dict[str, str], known: tuple[str, ...]) -> EndpointSettings:
    """What a string says.

    Raises:
        ValueError: it says something else.
    """
    from pico_twisted.door.settings import EndpointSettings

    if len(args) != 1 or not args[0]:
        raise ValueError(
            f"pico: expected one endpoint ID, such as pico:demo, found {len(args) if any(args) else 'none'} "
            "(a colon in a value is written \\:, as in url=https\\://pico.example.com)"
        )
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"pico:{args[0]}: does not know {', '.join(unknown)}; it takes {', '.join(known)}")
    return EndpointSettings(endpoint=args[0], **options)
