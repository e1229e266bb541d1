"""Two nginx: the service that everything is loaded against, and the reverse proxy that is the yardstick.

Each is one process that is master and only worker at once (`master_process off`), so that its CPU is easy to read and a
plain user can start it. All its files are in the run's directory.
"""

from __future__ import annotations

from pathlib import Path

from tools.stage.ports import free_port
from tools.stage.processes import Process, find_program

SMALL_BODY = b"small " * 25
"""150 bytes, the answer to most requests."""
KEPT_CONNECTIONS = 512
"""More than any load here opens, so that the yardstick never connects to the service anew."""

_FRAME = """\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/{name}.pid;
lock_file {directory}/{name}.lock;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nodelay on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-fastcgi;
  uwsgi_temp_path {directory}/{name}-uwsgi;
  scgi_temp_path {directory}/{name}-scgi;
{servers}
}}
"""

_SERVICE = """\
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    listen unix:{directory}/service.sock backlog=1024;
    listen 127.0.0.1:{http2} http2 backlog=1024;
    root {directory}/files;
    location = /small {{ default_type text/plain; return 200 "{small}"; }}
    location / {{ }}
    location /upload/ {{ dav_methods PUT; }}
  }}
"""

# Bodies are streamed and never go through the disk, as in Pico; the forwarding headers are the usual ones.
_PROXY = """\
  upstream service {{
    server 127.0.0.1:{service};
    keepalive {kept};
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }}
  }}
"""


class Nginx(Process):
    """A running nginx.

    Args:
        name: for messages and files.
        servers: what stands in its http block; `{port}` is the port it listens on.
        directory: of the run.
        values: what else is filled in.
    """

    def __init__(self, name: str, servers: str, directory: Path, **values: object) -> None:
        program = find_program("nginx", "nginx-light")
        self.port = free_port()
        config = directory / f"{name}.conf"
        filled = servers.format(port=self.port, directory=directory, **values)
        config.write_text(_FRAME.format(name=name, directory=directory, servers=filled))
        super().__init__(name, [program, "-e", "stderr", "-p", str(directory), "-c", str(config)], directory)


class Service(Nginx):
    """Answers /small with 150 bytes and /large with a big body, and takes PUT below /upload/. It listens on a port,
    on a unix socket, and for HTTP/2 on another port.

    Attributes:
        addresses: where a listener finds it: `tcp`, `unix`, `h2c`.
    """

    def __init__(self, directory: Path, large_bytes: int) -> None:
        files = directory / "files"
        (files / "upload").mkdir(parents=True)
        self.large = files / "large"
        with self.large.open("wb") as file:
            file.truncate(large_bytes)
        self.uploaded = files / "upload" / "large"
        http2 = free_port()
        super().__init__("service", _SERVICE, directory, small=SMALL_BODY.decode(), http2=http2)
        self.addresses = {
            "tcp": f"127.0.0.1:{self.port}",
            "unix": f"unix:{directory / 'service.sock'}",
            "h2c": f"h2c://127.0.0.1:{http2}",
        }


class ReverseProxy(Nginx):
    """The yardstick."""

    def __init__(self, directory: Path, service: Service) -> None:
        super().__init__("nginx-proxy", _PROXY, directory, service=service.port, kept=KEPT_CONNECTIONS)
