"""A service of gRPC whose messages are plain bytes. Runs by itself: `python service.py`, which prints its port."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]  # in an environment of its own

LARGEST = 64 * 1024 * 1024


class Calls:
    """What a client may call. The metadata `x-…` of a request comes back in the initial metadata."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.begun = 0

    def _greet(self, context: Any) -> None:
        self.begun += 1
        told = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-test")]
        context.send_initial_metadata(told)
        context.set_trailing_metadata([("x-trailing", "t"), ("x-trailing-bin", b"\0\xff\n")])

    def echo(self, request: bytes, context: Any) -> bytes:
        self._greet(context)
        return request

    def count(self, request: bytes, context: Any) -> bytes:
        return b"%d %d" % (self.begun, self.cancelled)

    def many(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._greet(context)
        for number in range(int(request)):
            yield b"%d" % number

    def gather(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._greet(context)
        return b"%d" % sum(int(request) for request in requests)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._greet(context)
        for request in requests:
            yield b"re: " + request

    def slow(self, request: bytes, context: Any) -> bytes:
        self.begun += 1
        over = threading.Event()
        context.add_callback(over.set)
        if over.wait(float(request)):
            self.cancelled += 1
        return b"late"

    def ticks(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._greet(context)
        over = threading.Event()

        def is_over() -> None:
            self.cancelled += 1  # not behind the loop: grpcio may drop a generator that is not waiting
            over.set()

        context.add_callback(is_over)
        while not over.wait(float(request)):
            yield b"tick"

    def fails(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x03\x12\x03bad"), ("x-trailing", "t")])
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not good: é % ✓")
        raise AssertionError

    def fails_late(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(3):
            yield b"%d" % number
        context.abort(grpc.StatusCode.DATA_LOSS, "lost")


def main() -> None:
    """Serve until stdin ends."""
    calls = Calls()
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(calls.echo),
        "Count": grpc.unary_unary_rpc_method_handler(calls.count),
        "Slow": grpc.unary_unary_rpc_method_handler(calls.slow),
        "Fails": grpc.unary_unary_rpc_method_handler(calls.fails),
        "Many": grpc.unary_stream_rpc_method_handler(calls.many),
        "Ticks": grpc.unary_stream_rpc_method_handler(calls.ticks),
        "FailsLate": grpc.unary_stream_rpc_method_handler(calls.fails_late),
        "Gather": grpc.stream_unary_rpc_method_handler(calls.gather),
        "Chat": grpc.stream_stream_rpc_method_handler(calls.chat),
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)],
        compression=grpc.Compression.NoCompression,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0.1)
    time.sleep(0.1)


if __name__ == "__main__":
    main()
