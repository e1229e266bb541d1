"""A byte stream over TCP or TLS that one thread may read while others write.

A socket has one timeout for both directions, and two threads in one TLS object at a time corrupt it. So the socket is
never blocking here, each call into it holds a lock, and all waiting is done outside with poll(2).
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

# How long any single wait of a test peer may take before the test is told that nothing came.
PATIENCE_S = 30.0


class Ended(Exception):
    """The other side ended the connection.

    Attributes:
        code: for a WebSocket, the close code that it sent; None when there was none.
        clean: True when it said so in the protocol's own way (a close frame).
        broken: True for a reset or a TLS failure, False for a plain end.
    """

    def __init__(self, code: int | None, reason: str, *, clean: bool, broken: bool = False) -> None:
        super().__init__(f"ended with code {code}, reason {reason!r}, {'clean' if clean else 'not clean'}")
        self.code = code
        self.reason = reason
        self.clean = clean
        self.broken = broken


class Pipe:
    """One connection.

    Args:
        sock: connected; for TLS already wrapped and shaken hands.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._turn = threading.Lock()
        self._sending = threading.Lock()
        self._closed = False
        self._abort = False
        self._waiting = 0
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.remote: tuple[str, int] = sock.getpeername()[:2]
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)

    @property
    def secure(self) -> bool:
        """Is it TLS?"""
        return isinstance(self._sock, ssl.SSLSocket)

    @property
    def certificate(self) -> bytes:
        """The peer's certificate in DER, empty without TLS."""
        sock = self._sock
        return (sock.getpeercert(binary_form=True) or b"") if isinstance(sock, ssl.SSLSocket) else b""

    def _wait(self, events: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came" if events & select.POLLIN else "nothing was taken")
        with self._turn:
            if self._closed:
                raise Ended(None, "closed by this side", clean=False)
            self._waiting += 1
            poll = select.poll()
            poll.register(self._sock.fileno(), events)
        try:
            # A reset in another thread wakes readers only, so a writer looks now and then.
            poll.poll(left * 1000 if events & select.POLLIN else min(left * 1000, 250))
        finally:
            with self._turn:
                self._waiting -= 1
                self._release()

    def _release(self) -> None:
        """Give the descriptor back, once nobody waits for it any more: its number may be another connection's next."""
        if self._closed and not self._waiting and self._sock.fileno() >= 0:
            if self._abort:
                # Without TLS's goodbye, which closing an SSLSocket does not say either; the option makes it a RST.
                os.close(self._sock.detach())
            else:
                self._sock.close()

    def recv(self, timeout: float = PATIENCE_S, size: int = 262144) -> bytes:
        """Some bytes. Raises Ended at the end, TimeoutError when nothing came in time."""
        deadline = time.monotonic() + timeout
        while True:
            events = select.POLLIN
            try:
                with self._turn:
                    if self._closed:
                        raise Ended(None, "closed by this side", clean=False)
                    data = self._sock.recv(size)
                if data:
                    return data
                raise Ended(None, "end of stream", clean=False)
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            except ssl.SSLEOFError as error:
                raise Ended(None, "end of stream inside TLS", clean=False) from error
            except OSError as error:
                raise Ended(None, str(error), clean=False, broken=True) from error
            self._wait(events, deadline)

    def send(self, data: bytes, timeout: float = PATIENCE_S) -> None:
        """All of the bytes. Raises Ended when the other side is gone, TimeoutError when it does not take them."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        with self._sending:
            while view:
                events = select.POLLOUT
                try:
                    with self._turn:
                        if self._closed:
                            raise Ended(None, "closed by this side", clean=False)
                        view = view[self._sock.send(view[:65536]) :]
                    continue
                except (BlockingIOError, ssl.SSLWantWriteError):
                    pass
                except ssl.SSLWantReadError:
                    events = select.POLLIN
                except OSError as error:
                    raise Ended(None, str(error), clean=False, broken=True) from error
                self._wait(events, deadline)

    def send_some(self, data: bytes) -> int:
        """As many bytes as are taken at once, perhaps 0."""
        with self._sending, self._turn:
            try:
                return self._sock.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return 0
            except OSError as error:
                raise Ended(None, str(error), clean=False, broken=True) from error

    def limit_receive_buffer(self, size: int) -> None:
        """Make the kernel hold little for a reader that is slow on purpose."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def limit_send_buffer(self, size: int) -> None:
        """Make the kernel hold little of what the other side does not read."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def half_close(self) -> None:
        """Send FIN and go on reading. Plain TCP only. Raises Ended when the other side is gone."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Ended(None, str(error), clean=False, broken=True) from error

    def _shut(self, how: int) -> None:
        try:
            # Not SSLSocket's own `shutdown`, which would throw the TLS object away under a reader's feet.
            socket.socket.shutdown(self._sock, how)
        except OSError:
            pass

    def close(self, *, goodbye: bool = True) -> None:
        """End with a FIN, over TLS with its goodbye first if wanted. Idempotent; wakes a reader in another thread."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            try:
                if goodbye and isinstance(self._sock, ssl.SSLSocket):
                    # Says close_notify; the other side's is not waited for, which raises "want read".
                    self._sock.unwrap()
            except (OSError, ValueError):
                pass
            self._shut(socket.SHUT_RDWR)
            self._release()

    def reset(self) -> None:
        """End with a RST."""
        with self._turn:
            if self._closed:
                return
            self._closed = self._abort = True
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Sends nothing, but wakes a reader.
            self._shut(socket.SHUT_RD)
            self._release()


def dial(
    address: tuple[str, int],
    *,
    tls: ssl.SSLContext | None = None,
    name: str = "localhost",
    timeout: float = PATIENCE_S,
    receive_buffer: int | None = None,
) -> Pipe:
    """Connect over TCP or TLS; `name` is what the certificate is checked against."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if receive_buffer is not None:
            # Only before connect does it bound the window that TCP announces.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect(address)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=name)
        return Pipe(sock)
    except BaseException:
        sock.close()
        raise


class Listener:
    """Accepts connections on a free port of 127.0.0.1, each in a thread of its own.

    Args:
        serve: called with each connection, which is closed when it returns.
        tls: a server context, or None for plain TCP.
        port: 0 for a free one.
    """

    def __init__(
        self,
        serve: Callable[[Pipe], object],
        *,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        backlog: int = 1024,
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._pipes: set[Pipe] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.Lock()
        self._sock = socket.create_server(("127.0.0.1", port), backlog=backlog)
        self.address: tuple[str, int] = self._sock.getsockname()
        self.port = self.address[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"listener-{self.port}", daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._run, args=(sock,), name=f"connection-{self.port}", daemon=True)
            with self._lock:
                self._threads = [other for other in self._threads if other.is_alive()]
                self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock.settimeout(PATIENCE_S)
                sock = self._tls.wrap_socket(sock, server_side=True)
            pipe = Pipe(sock)
        except OSError:
            sock.close()
            return
        with self._lock:
            closed = self._closed
            self._pipes.add(pipe)
        try:
            if not closed:
                self._serve(pipe)
        finally:
            pipe.close()
            with self._lock:
                self._pipes.discard(pipe)

    def drop_all(self) -> None:
        """Close the open connections, go on listening."""
        with self._lock:
            pipes = list(self._pipes)
        for pipe in pipes:
            pipe.close()

    def close(self) -> None:
        """Stop listening and close every connection."""
        with self._lock:
            self._closed = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
        self._acceptor.join(PATIENCE_S)
        self.drop_all()
        for thread in self._threads:
            thread.join(PATIENCE_S)
