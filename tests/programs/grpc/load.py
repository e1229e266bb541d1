"""Calls that go on while something happens to the cluster. Runs by itself: `python load.py PORT ENDPOINT`.

It calls until stdin ends, and then prints what became of the calls: how many there were of each status, and of the
streams that were open.
"""

from __future__ import annotations

import collections
import json
import sys
import threading
from typing import Any

import grpc  # type: ignore[import-not-found,import-untyped,unused-ignore]  # in an environment of its own

CALLERS = 8
STREAMS = 8


def main() -> None:
    """Call and count."""
    metadata = (("x-pico-endpoint", sys.argv[2]),)
    channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=[("grpc.enable_http_proxy", 0)])
    over = threading.Event()
    unary: collections.Counter[str] = collections.Counter()
    streams: collections.Counter[str] = collections.Counter()
    last: dict[int, str] = {}

    def call(number: int) -> None:
        echo = channel.unary_unary("/test.Test/Echo")
        while not over.is_set():
            try:
                echo(b"x" * 100, metadata=metadata, timeout=20)
                last[number] = "OK"
            except grpc.RpcError as error:
                last[number] = error.code().name  # type: ignore[attr-defined,unused-ignore]
            unary[last[number]] += 1

    def follow(stream: Any) -> None:
        try:
            for _ in stream:
                if over.is_set():
                    stream.cancel()
        except grpc.RpcError as error:
            streams["ended by us" if over.is_set() else error.code().name] += 1  # type: ignore[attr-defined,unused-ignore]

    ticks = channel.unary_stream("/test.Test/Ticks")
    opened = [ticks(b"0.05", metadata=metadata) for _ in range(STREAMS)]
    threads = [threading.Thread(target=follow, args=(stream,)) for stream in opened]
    threads += [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for stream in opened:
        next(iter([stream.initial_metadata()]))
    print("begun", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(30)
    print(json.dumps([unary, streams, sorted(set(last.values()))]), flush=True)


if __name__ == "__main__":
    main()
