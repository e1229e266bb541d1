"""Records which of the odd requests nginx and HAProxy serve, as their packages come.

    python -m tests.odd_requests.record

Run by `make odd-requests`. Needs both programs. Writes `table.tsv`, a line for each request: its name, and what either
proxy made of it. A test demands that a node serves what both of them serve.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.odd_requests.asking import SERVED, ask, echo, free_port
from tests.odd_requests.requests import odd_requests
from tests.system.wire import connect
from tools.stage.waiting import wait_until

TABLE = Path(__file__).with_name("table.tsv")

NGINX = """
daemon off; master_process off; error_log stderr crit; pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{service}; proxy_http_version 1.1; }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend odd
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server one 127.0.0.1:{service}
"""

COMMANDS = {
    "nginx": (NGINX, ["nginx", "-c", "{file}", "-p", "{directory}"], ["nginx", "-v"]),
    "haproxy": (HAPROXY, ["haproxy", "-f", "{file}", "-db", "-q"], ["haproxy", "-v"]),
}


@contextlib.contextmanager
def running(name: str, service: int) -> Iterator[int]:
    """One of the proxies in front of the service; gives its port."""
    text, command, _ = COMMANDS[name]
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "conf")
        file.write_text(text.format(directory=directory, port=port, service=service))
        process = subprocess.Popen([part.format(file=file, directory=directory) for part in command])
        try:
            wait_until(lambda: _listens(port), f"{name} to listen")
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def version(name: str) -> str:
    done = subprocess.run(COMMANDS[name][2], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()[0].split(" 20")[0]


def read_table() -> dict[str, tuple[str, str]]:
    """What nginx and HAProxy made of each request, by its name."""
    rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {name: (nginx, haproxy) for name, nginx, haproxy in rows}


def main() -> int:
    """The command."""
    requests = odd_requests()
    columns: list[list[str]] = []
    with echo() as service:
        for name in COMMANDS:
            with running(name, service) as port:
                columns.append([ask(connect(("127.0.0.1", port)), request) for request in requests])
            print(f"{name}: {columns[-1].count(SERVED)} of {len(requests)} are served")
    lines = ["# " + "; ".join(version(name) for name in COMMANDS), "# request\tnginx\tHAProxy"]
    lines += ["\t".join((request.name, *row)) for request, *row in zip(requests, *columns, strict=True)]
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
