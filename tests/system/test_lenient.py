"""Services that break some rules of HTTP, as small devices do: served by a lenient listener, else refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.system.service import Connection, Service
from tests.system.wire import connect
from tools.stage.stage import Stage

DEVICES = {
    "LF alone": (b"HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 2\n\nok", 200),
    "LF at the end": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", 200),
    "an empty line in front": (b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
    "status 600": (b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", 600),
    "status 999": (b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999),
    "the same length twice": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200),
    "blanks behind a chunk's size": (
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2   \r\nok\r\n0\r\n\r\n",
        200,
    ),
}
"""What a device answers, and the status of it."""


def test_devices(tmp_path: Path) -> None:
    """The lenient listener serves each of them, on kept connections too; the other one answers 502 without waiting."""
    stage = Stage(tmp_path, None)
    service = Service()

    def script(connection: Connection) -> None:
        while True:
            target = connection.read_request().target.decode()
            connection.send(DEVICES[target.strip("/").replace("_", " ")][0])

    service.script = script
    try:
        node = stage.node()
        listeners: dict[str, str | dict[str, Any]] = {
            "device": {"addr": service.address, "lenient": True},
            "strict": service.address,
        }
        stage.agent(node, listeners)
        for name, (_, status) in DEVICES.items():
            for endpoint in ("device", "strict"):
                client = connect(node.proxy)
                target = name.replace(" ", "_")
                client.send(f"GET /{target} HTTP/1.1\r\nHost: {endpoint}.example.com\r\n\r\n".encode())
                response = client.read_response()
                client.close()
                if endpoint == "device":
                    assert (response.status, response.body) == (status, b"ok"), name
                else:
                    assert (response.status, response.get("date") is not None) == (502, True), name
        assert stage.new_faults() == []
    finally:
        stage.close()
        service.close()
