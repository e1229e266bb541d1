"""What picoctl shows to an admin port that wants to know who asks, and what it says when that is not enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.threads import deferToThread

from pico_twisted.config import ServerTlsConfig
from pico_twisted.net.tls.port_context import ServerContext
from tests.ctl.harness import picoctl
from tests.doubles.gate import ToldGate, subject
from tests.net.admin.admin_fakes import Served, access, node_app
from tests.net.in_reactor import in_reactor
from tools.stage.certificates import make


@in_reactor
async def test_a_port_that_wants_to_know_who_asks(tmp_path: Path) -> None:
    """A token of a file, a flag or the environment is shown; without a right one it is said what helps."""
    known = {b"a-token": subject("me", "admin:operate"), b"another": subject("agent", "listen:*")}
    served = Served(node_app(admits=access(ToldGate(known))))
    good, other, empty = tmp_path / "good", tmp_path / "other", tmp_path / "empty"
    good.write_text("a-token\n")
    other.write_text("another")
    empty.write_text("\n")
    cases: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
        (("--token-file", str(good)), {}, 0, ""),
        (("--token", "a-token"), {}, 0, ""),
        ((), {"PICO_TOKEN": "a-token"}, 0, ""),
        ((), {"PICO_TOKEN_FILE": str(good)}, 0, ""),
        (("--token-file", str(good)), {"PICO_TOKEN": "wrong", "PICO_TOKEN_FILE": "missing"}, 0, ""),
        ((), {"PICO_TOKEN": "a-token", "PICO_TOKEN_FILE": str(other)}, 0, ""),
        ((), {}, 3, "answers with 401: this port wants a token"),
        ((), {}, 3, "--token-file FILE or PICO_TOKEN_FILE"),
        (("--token", "wrong"), {}, 3, "answers with 401: the credential is not known here"),
        ((), {"PICO_TOKEN_FILE": str(other)}, 3, "answers with 403: the credential does not allow admin:read"),
        (("--token", "x", "--token-file", "y"), {}, 2, "one of the two is enough"),
        (("--token", ""), {}, 2, "Invalid value for --token: what is given is no token"),
        (("--token", "a b"), {}, 2, "no token"),
        (("--token-file", str(empty)), {}, 2, "Invalid value for --token-file"),
        ((), {"PICO_TOKEN_FILE": str(tmp_path)}, 2, "Invalid value for PICO_TOKEN_FILE"),
    ]
    try:
        for options, variables, status, words in cases:
            environ: Any = {"PICO_ADMIN": served.url, **variables}
            done = await deferToThread(picoctl, "status", "nodes", *options, **environ)
            assert (done.returncode, words in done.stderr.replace("\n", " ")) == (status, True), done
            assert "a-token" not in done.stderr
        done = await deferToThread(picoctl, "reload", "--token-file", str(good), PICO_ADMIN=served.url)
        assert (done.returncode, done.stdout) == (0, "reloaded: nothing has changed\n")
        named = served.url.replace("127.0.0.1", "localhost.localdomain")
        done = await deferToThread(picoctl, "status", "--admin", named, "--token", "a-token")
        assert done.returncode == 3 and ("421" in done.stderr or "no address for the name" in done.stderr)
    finally:
        await served.close()


@in_reactor
async def test_a_port_that_wants_a_certificate(tmp_path: Path) -> None:
    """One is shown with --cert and --key, or from one file; a wrong one, or none, is told."""
    authority = make(tmp_path, "authority", authority=True)
    server = make(tmp_path, "server", issuer=authority)
    client = make(tmp_path, "client", issuer=authority, client=True)
    stranger = make(tmp_path, "stranger", client=True)
    both = tmp_path / "both.pem"
    both.write_bytes(client.pem + client.pair.key.read_bytes())
    known = ToldGate({client.cert.public_bytes(Encoding.DER): subject("me", "admin:operate")})
    tls = ServerTlsConfig(
        cert=server.cert_file, key=server.key_file, client_ca=authority.cert_file, client_auth="required"
    )
    served = Served(node_app(admits=access(known)), tls=ServerContext(tls))
    url = f"https://127.0.0.1:{served.number}"
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("--cert", client.cert_file, "--key", client.key_file), 0, ""),
        (("--cert", str(both)), 0, ""),
        ((), 3, "--cert FILE and --key FILE"),
        (("--cert", stranger.cert_file, "--key", stranger.key_file), 3, "--cert FILE and --key FILE"),
        (("--cert", client.cert_file, "--key", stranger.key_file), 2, "are not a certificate and its unencrypted key"),
        (("--cert", client.cert_file), 2, "are not a certificate and its unencrypted key"),
        (("--cert", "missing.pem"), 2, "missing.pem cannot be read"),
        (("--key", client.key_file), 2, "there is no --cert"),
    ]
    try:
        for command in ("status", "reload"):
            for options, status, words in cases:
                asking = (command, "--admin", url, "--ca", authority.cert_file, *options)
                done = await deferToThread(picoctl, *asking)
                assert (done.returncode, words in done.stderr.replace("\n", " ")) == (status, True), done
        done = await deferToThread(picoctl, "status", "--cert", str(both), "--admin", "http://localhost:1")
        assert done.returncode == 2 and "is for https" in done.stderr
    finally:
        await served.close()
