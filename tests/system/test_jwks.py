"""Agents with JWTs whose keys are published by a server that comes and goes: real processes, real TLS."""

from __future__ import annotations

import http.server
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import jwt

from tests.doubles.jwt import jwk, key_set, private_key
from tests.system.requesting import ask
from tests.system.service import Service
from tools.stage.certificates import Made, make
from tools.stage.ports import free_port
from tools.stage.stage import Stage, open_stage


class KeyServer:
    """Publishes keys over https, while it is up."""

    def __init__(self, certificate: Made) -> None:
        self.port = free_port()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.cert_file, certificate.key_file)
        self._server: http.server.HTTPServer | None = None

    def start(self, *keys: str) -> None:
        """Publish these."""
        body = key_set(*map(jwk, keys))

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.HTTPServer(("127.0.0.1", self.port), Answer)
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def agent_settings(folder: Path, key: str, endpoint: str) -> dict[str, Any]:
    """Of an agent whose JWT this key has signed."""
    claims = {"sub": endpoint, "aud": "pico", "exp": time.time() + 3600, "pico": {"rules": [f"listen:{endpoint}"]}}
    file = folder / f"{endpoint}.token"
    file.write_text(jwt.encode(claims, private_key(key), "RS256", headers={"kid": key}))
    return {"connect": {"token_file": str(file)}}


def test_sessions_live_on_while_the_server_of_keys_is_away(tmp_path: Path, service: Service) -> None:
    """It is down when the node starts, comes, goes, and comes back with another key: agents whose key was taken out
    stay until their tokens end, and new ones of that key are refused. No token stands in a log."""
    server = KeyServer(make(tmp_path, "issuer", names=("localhost",)))
    settings = {
        "jwks": f"https://localhost:{server.port}/keys",
        "jwks_ca": str(tmp_path / "issuer.pem"),
        "audience": "pico",
    }

    def serving(stage: Stage, endpoint: str) -> bool:
        return ask(stage, node, f"GET / HTTP/1.1\r\nHost: {endpoint}.test\r\n\r\n".encode()).status == 200

    with open_stage(tmp_path) as stage:
        node = stage.node(settings={"upstream": {"auth": {"jwt": settings}}})
        node.wait_output("cannot be used, the last one counts: nothing listens there")
        listeners = {name: {"web-" + name: service.address} for name in ("one", "two", "late")}
        one = stage.agent(node, listeners["one"], agent_settings(tmp_path, "rsa", "web-one"), wait=False)
        one.wait_output("cannot be fetched at the moment")
        assert node.admin.metric("pico_auth_total", '{port="upstream",result="keys-away"}') >= 1
        server.start("rsa")
        node.signal(signal.SIGHUP)
        node.wait_endpoint("web-one")
        assert serving(stage, "web-one")

        server.stop()
        node.signal(signal.SIGHUP)
        node.wait_count("the last one counts", 2)
        assert serving(stage, "web-one")

        server.start("rsa-2")
        node.signal(signal.SIGHUP)
        stage.agent(node, listeners["two"], agent_settings(tmp_path, "rsa-2", "web-two"), name="agent-2")
        late = stage.agent(
            node, listeners["late"], agent_settings(tmp_path, "rsa", "web-late"), name="agent-3", wait=False
        )
        late.wait_output("the credential is not known here")
        assert serving(stage, "web-one") and serving(stage, "web-two") and not serving(stage, "web-late")
        assert not any("eyJ" in process.output for process in stage.processes)
        assert stage.new_faults() == []
    server.stop()
