"""Private names of libraries are used in one module each, and a release that takes one away is noticed here first."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.unix import Port
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol
from twisted.web.http import HTTPChannel

import pico_twisted
from tests.structure.source import modules

PACKAGE: Final = Path(pico_twisted.__file__).parent

_TLS: Final = "net/tls/transport.py"
_REACTOR: Final = "app/process/turns.py"
_ADMIN: Final = "net/admin/site.py"
_PIPE: Final = "net/tunnel/websocket_pipe.py"
_SOCKET: Final = "net/socket/options.py"
_LOOP: Final = "door/loop_reactor.py"
_LOCAL_ADMIN: Final = "app/process/local_admin.py"

USED: Final[dict[str, tuple[type, str, str]]] = {
    "_aborted": (TLSMemoryBIOProtocol, _TLS, "a dropped TLS connection goes on with its handshake"),
    "_aggregator": (BufferingTLSTransport, _TLS, "what was written just before an end over TLS is lost"),
    "_appSendBuffer": (TLSMemoryBIOProtocol, _TLS, "a TLS connection ends before its last bytes have left"),
    "_checkHandshakeStatus": (TLSMemoryBIOProtocol, _TLS, "no reason is given for a certificate that was refused"),
    "_flushReceiveBIO": (TLSMemoryBIOProtocol, _TLS, "what comes behind the end of a TLS connection is kept"),
    "_flushSendBIO": (TLSMemoryBIOProtocol, _TLS, "TLS handshakes and ends stay unsent"),
    "_handshakeDone": (TLSMemoryBIOProtocol, _TLS, "an end during a TLS handshake is taken for one after it"),
    "_lostTLSConnection": (TLSMemoryBIOProtocol, _TLS, "bytes are read from a TLS connection that has ended"),
    "_reason": (TLSMemoryBIOProtocol, _TLS, "the log does not say why a TLS handshake failed"),
    "_shutdownTLS": (TLSMemoryBIOProtocol, _TLS, "a TLS connection is never closed"),
    "_tlsConnection": (TLSMemoryBIOProtocol, _TLS, "no TLS connection works"),
    "_tlsShutdownFinished": (TLSMemoryBIOProtocol, _TLS, "a failed TLS connection stays open"),
    "_unbufferPendingWrites": (TLSMemoryBIOProtocol, _TLS, "half-closed TLS connections never end"),
    "_write": (TLSMemoryBIOProtocol, _TLS, "bytes are written behind the end of a TLS connection"),
    "_doReadOrWrite": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_poller": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_disconnectSelectable": (EPollReactor, _REACTOR, "who goes first is looked at over and over when it half-closes"),
    "_internalReaders": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_reads": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_writes": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_selectables": (EPollReactor, _REACTOR, "the daemons do not start; `twistd --reactor=epoll` does"),
    "_handlingRequest": (HTTPChannel, _ADMIN, "idle connections of the admin port are not closed in a drain"),
    "_respondToBadRequestAndDisconnect": (
        HTTPChannel,
        _ADMIN,
        "nonsense on the admin port gets an answer without JSON",
    ),
    "_dataReceived": (WebSocketProtocol, _PIPE, "no tunnel opens"),
    "_fail_connection": (WebSocketProtocol, _PIPE, "a peer that breaks WebSocket is closed without a log line"),
    "_tempDataBuffer": (FileDescriptor, _SOCKET, "writes may overtake each other"),
    "_buildAddr": (Port, "net/socket/unix.py", "ports on Unix sockets take no connections"),
    "_registerAsIOThread": (ReactorBase, _LOOP, "a program's own reactor, in another thread, does not know its thread"),
    "_fromListeningDescriptor": (Port, _LOCAL_ADMIN, "daemons with a RUNTIME_DIRECTORY do not start"),
}
"""By name: the class of the library that has it, the module of ours that uses it, and what breaks without it."""

_PUBLIC: Final = frozenset({"_replace", "_exit"})
"""Documented names of the standard library that begin with an underscore."""

# Names that our classes give to attributes of their own, though a class of the table has the same.
_OURS_TOO: Final = frozenset({"_aborted", "_reason", "_write", "_writes", "_flush"})


def _uses() -> dict[str, set[str]]:
    """The modules that use each private name that no class of ours defines."""
    defined = {name for module in modules().values() for name in _defined(module.tree)} | _PUBLIC
    uses: dict[str, set[str]] = defaultdict(set)
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if node.attr in USED or node.attr not in defined:
                    uses[node.attr].add(str(module.path.relative_to(PACKAGE)))
    return uses


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _overridden() -> Iterator[tuple[str, str]]:
    """The private methods of libraries that classes of ours override, with the module that does."""
    for path in PACKAGE.rglob("*.py"):
        module = importlib.import_module("pico_twisted." + str(path.relative_to(PACKAGE))[:-3].replace("/", "."))
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == module.__name__:
                for name, value in vars(cls).items():
                    foreign = [
                        base for base in cls.__mro__[1:] if base.__module__.split(".")[0] in ("twisted", "autobahn")
                    ]
                    if name.startswith("_") and not name.startswith("__") and inspect.isfunction(value):
                        if any(name in vars(base) for base in foreign):
                            yield name, str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("name", USED)
def test_a_private_name_is_still_there(name: str) -> None:
    """The installed release has each private name that is used; the message says what breaks without it."""
    owner, module, breaks = USED[name]
    sources = [inspect.getsource(cls) for cls in owner.__mro__ if cls is not object]
    assert any(name in source for source in sources), f"{owner.__qualname__}.{name} is gone ({module}): {breaks}"


def test_the_c_functions_of_autobahn_are_still_there() -> None:
    """The installed release lays masks in C, as we ask it to; without that a mask on 10 KB takes ten times as long."""
    module = importlib.import_module("_nvx_xormasker")
    for name in ("nvx_xormask_new", "nvx_xormask_process", "nvx_xormask_free"):
        assert hasattr(module.lib, name), f"{name} is gone ({_PIPE}): masks of large frames are laid by Python"


def test_no_other_private_name_is_used() -> None:
    """Each private name of a library is in the table, so that its loss is noticed, and is used in its module alone."""
    complaints = []
    for name, users in sorted(_uses().items()):
        if name not in USED:
            complaints.append(f"{name} is used in {sorted(users)} and not in the table")
        elif name not in _OURS_TOO and users != {USED[name][1]}:
            complaints.append(f"{name} belongs to {USED[name][1]} and is used in {sorted(users)}")
    for name, module in _overridden():
        if name not in USED or USED[name][1] != module:
            complaints.append(f"{name} is overridden in {module} and not in the table")
    assert not complaints, "\n".join(complaints)
