"""The port of an agent's inspector, as its configuration has it."""

from __future__ import annotations

from twisted.internet.error import CannotListenError

from pico_twisted import __version__
from pico_twisted.app.process.ports import CannotStart
from pico_twisted.app.process.reactor import IDaemonReactor
from pico_twisted.config.checks import read_secret
from pico_twisted.config.inspect import InspectConfig
from pico_twisted.config.kinds import CLUSTER_SECRET
from pico_twisted.net.admin.inspect import InspectorPort, open_inspector
from pico_twisted.net.agent.inspect import Inspector


def bind_inspector(reactor: IDaemonReactor, inspector: Inspector, config: InspectConfig) -> InspectorPort:
    """Open the port.

    Args:
        reactor: of the process.
        inspector: whose recordings are shown.
        config: where, and what opens it.

    Raises:
        CannotStart: the address cannot be used, or the file of the key is not what it was when it was checked.
    """
    key = read_secret(config.key_file, CLUSTER_SECRET) if config.key_file else ""
    if key is None:
        raise CannotStart(f"inspect.key_file: {config.key_file} holds no key")
    try:
        return open_inspector(
            reactor, inspector.recordings, inspector.replay, version=__version__, address=config.bind_addr, key=key
        )
    except CannotListenError as error:
        raise CannotStart(f"inspect.bind_addr: cannot listen on {config.bind_addr}: {error.socketError}") from None
