"""An ACME server (RFC 8555) that validates names and certifies them, on this machine, with faults to order.

It is strict where a client can be wrong: nonces count once, signatures are checked with the key of the account, the URL
that was signed must be the one that was asked, and names are validated by connecting, as RFC 8555 8.3 and RFC 8737 have
it. All names lead to one address.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import secrets
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tools.stage.certificates import make

PATIENCE_S: Final = 10.0
_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")

Json = dict[str, Any]  # as JSON is


class Problem(Exception):
    """An error of the protocol (RFC 8555 6.7)."""

    def __init__(self, kind: str, detail: str, status: int = 400, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.fields = {"Content-Type": "application/problem+json", **(fields or {})}
        self.document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}


class AcmeStage:
    """The server. Close it when it is not needed any more.

    Args:
        directory: for its certificates.
        address: where it listens, at any port; and where the names lead to, unless `lead_to` is given.
        lead_to: the address that all names lead to.
        http_port: at which HTTP-01 is validated.
        tls_port: at which TLS-ALPN-01 is validated.
        life_s: seconds for which certificates are valid.

    Attributes:
        faults: how often each is still to happen: `badNonce`, `rateLimited`, `invalid`, `processing`, `garbage`,
            `endless`, `other key`, `other names`.
        orders: how many were made.
        validated: how often which name was, with the kind of its challenge; those of an order come at once.
        renew_now: what it suggests of all certificates (RFC 9773).
    """

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.0.1",
        lead_to: str = "",
        http_port: int = 0,
        tls_port: int = 0,
        life_s: float = 90 * 24 * 3600.0,
    ) -> None:
        years = (-1, 3650)
        self.root = make(directory, "acme-root", names=(), authority=True, days=years)
        self.issuer = make(directory, "acme-issuer", issuer=self.root, names=(), authority=True, days=years)
        own = make(directory, "acme-server", issuer=self.root, names=("localhost", address))
        self._lead_to = lead_to or address
        self.http_port, self.tls_port, self.life_s = http_port, tls_port, life_s
        self.faults: Counter[str] = Counter()
        self.orders = 0
        self.validated: Counter[tuple[str, str]] = Counter()
        self.renew_now = False
        self._nonces: set[str] = set()
        self._accounts: dict[str, Json] = {}  # the public key of each, by its URL
        self._things: dict[str, Json] = {}  # orders, authorizations and challenges, by their URL
        self._chains: dict[str, bytes] = {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.cert_file, own.key_file)
        self._server = _Server((address, 0), type("Handler", (_Handler,), {"acme": self}))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{'localhost' if address == '127.0.0.1' else address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def ca(self) -> str:
        """The file of the authority, for the server itself and for what it certifies."""
        return self.root.cert_file

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()

    def fails(self, fault: str) -> bool:
        """Whether a fault is to happen now."""
        if self.faults[fault] <= 0:
            return False
        self.faults[fault] -= 1
        return True

    # What clients ask

    def get(self, path: str) -> Json:
        """What needs no signature."""
        if path == "/directory":
            names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo")
            return {**{name: f"{self.url}/{name}" for name in names}, "meta": {"termsOfService": self.url}}
        if path.startswith("/renewalInfo/"):
            now = datetime.datetime.now(datetime.UTC)
            start = now - datetime.timedelta(hours=2) if self.renew_now else now + datetime.timedelta(days=3000)
            window = {"start": start, "end": start + datetime.timedelta(hours=1)}
            return {"suggestedWindow": {name: f"{when:%Y-%m-%dT%H:%M:%SZ}" for name, when in window.items()}}
        raise Problem("malformed", "nothing is here", 404)

    def nonce(self) -> str:
        """A new one."""
        self._nonces.add(made := secrets.token_urlsafe(16))
        return made

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, str], Json | bytes]:
        """The answer to a signed request: its status, fields and body."""
        url = self.url + path
        account, payload = self._opened(url, body)
        if path == "/newAccount":
            return self._new_account(account, payload)
        if account not in self._accounts:
            raise Problem("accountDoesNotExist", "sign in first")
        if path == "/newOrder":
            return self._new_order(account, payload)
        if path.startswith("/cert/"):
            return 200, {"Content-Type": "application/pem-certificate-chain"}, self._chains[url]
        thing = self._things.get(url)
        if thing is None or thing["account"] != account:
            raise Problem("malformed", "nothing of yours is here", 404)
        if path.startswith("/challenge/") and payload == {}:
            threading.Thread(target=self._validate, args=(thing,), daemon=True).start()
        elif path.startswith("/finalize/"):
            self._finalize(thing, payload)
            thing = self._things[thing["order"]]
        fields = {"Link": f'<{thing["up"]}>;rel="up"'} if "up" in thing else {}
        if thing["told"].get("status") == "processing":
            fields["Retry-After"] = "1"
            thing["polls"] -= 1
            if thing["polls"] <= 0:
                thing["told"]["status"] = "valid"
        return 200, fields, thing["told"]

    def _opened(self, url: str, body: bytes) -> tuple[str, Json | None]:
        """The account and the payload of a request, whose signature is right."""
        try:
            jws = json.loads(body)
            head = json.loads(_unpacked(jws["protected"]))
            account = head.get("kid", "")
            jwk = head["jwk"] if url.endswith("/newAccount") else self._accounts[account]
            x, y = (int.from_bytes(_unpacked(jwk[name]), "big") for name in ("x", "y"))
            key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            signature = _unpacked(jws["signature"])
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            signed = f"{jws['protected']}.{jws['payload']}".encode()
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except (KeyError, ValueError, InvalidSignature) as error:
            raise Problem("malformed", f"not signed as it should be: {error!r}") from error
        if head["nonce"] not in self._nonces or self.fails("badNonce"):
            raise Problem("badNonce", "this nonce is not good")
        self._nonces.discard(head["nonce"])
        if head["url"] != url or head["alg"] != "ES256" or ("jwk" in head) == ("kid" in head):
            raise Problem("unauthorized", "signed for something else")
        payload = json.loads(_unpacked(jws["payload"])) if jws["payload"] else None
        return (account or f"{self.url}/account/{_thumbprint(jwk)}"), (
            {**payload, "jwk": jwk} if url.endswith("/newAccount") and payload is not None else payload
        )

    def _new_account(self, account: str, payload: Json | None) -> tuple[int, dict[str, str], Json]:
        assert payload is not None
        known = account in self._accounts
        if not known and not payload.get("termsOfServiceAgreed"):
            raise Problem("userActionRequired", "agree to the terms of service", 403)
        self._accounts[account] = payload["jwk"]
        return (200 if known else 201), {"Location": account}, {"status": "valid"}

    def _new_order(self, account: str, payload: Json | None) -> tuple[int, dict[str, str], Json]:
        assert payload is not None
        if self.fails("rateLimited"):
            raise Problem("rateLimited", "too many certificates", 429, {"Retry-After": "7200"})
        self.orders += 1
        number = self.orders
        names = [one["value"] for one in payload["identifiers"]]
        authorizations = []
        for at, name in enumerate(names):
            authz = f"{self.url}/authz/{number}-{at}"
            offered = []
            for kind in ("dns-01", "http-01", "tls-alpn-01"):
                url = f"{self.url}/challenge/{number}-{at}-{kind}"
                told = {"type": kind, "url": url, "status": "pending", "token": secrets.token_urlsafe(32)}
                self._things[url] = {"account": account, "told": told, "up": authz, "name": name}
                offered.append(told)
            told_authz = {"status": "pending", "identifier": {"type": "dns", "value": name}, "challenges": offered}
            self._things[authz] = {"account": account, "told": told_authz}
            authorizations.append(authz)
        order, finalize = f"{self.url}/order/{number}", f"{self.url}/finalize/{number}"
        told_order: Json = {
            "status": "pending",
            "identifiers": payload["identifiers"],
            "authorizations": authorizations,
            "finalize": finalize,
        }
        self._things[order] = {"account": account, "told": told_order, "names": names}
        self._things[finalize] = {"account": account, "told": {}, "order": order}
        return 201, {"Location": order}, told_order

    def _validate(self, challenge: Json) -> None:
        told, authz = challenge["told"], self._things[challenge["up"]]["told"]
        expected = f"{told['token']}.{_thumbprint(self._accounts[challenge['account']])}"
        try:
            if self.fails("invalid"):
                raise OSError("Invalid response from \x1b[31mhttp://elsewhere")
            if told["type"] == "http-01":
                self._ask_http(challenge["name"], told["token"], expected)
            else:
                self._ask_tls(challenge["name"], expected)
        except Exception as error:
            told["error"] = Problem("unauthorized", str(error)).document
            told["status"] = authz["status"] = "invalid"
            return
        self.validated[challenge["name"], told["type"]] += 1
        told["status"] = authz["status"] = "valid"

    def _ask_http(self, name: str, token: str, expected: str) -> None:
        connection = HTTPConnection(self._lead_to, self.http_port, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"/.well-known/acme-challenge/{token}", headers={"Host": name})
            answer = connection.getresponse()
            found = answer.read(10_000).decode("ascii").rstrip()
        finally:
            connection.close()
        if answer.status != 200 or found != expected:
            raise OSError(f"{name} answers {answer.status} {found[:50]}")

    def _ask_tls(self, name: str, expected: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        plain = socket.create_connection((self._lead_to, self.tls_port), PATIENCE_S)
        with plain, context.wrap_socket(plain, server_hostname=name) as tls:
            protocol, shown = tls.selected_alpn_protocol(), tls.getpeercert(binary_form=True)
        own = x509.load_der_x509_certificate(shown or b"")
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        proof = own.extensions.get_extension_for_oid(_IDENTIFIER)
        assert isinstance(proof.value, x509.UnrecognizedExtension)
        digest = b"\x04\x20" + hashlib.sha256(expected.encode()).digest()
        if protocol != "acme-tls/1" or names.get_values_for_type(x509.DNSName) != [name] or not proof.critical:
            raise OSError(f"{name} shows another certificate")
        if proof.value.value != digest:
            raise OSError(f"{name} shows another digest")

    def _finalize(self, finalize: Json, payload: Json | None) -> None:
        assert payload is not None
        order = self._things[finalize["order"]]
        told = order["told"]
        if any(self._things[url]["told"]["status"] != "valid" for url in told["authorizations"]):
            raise Problem("orderNotReady", "validate first", 403)
        csr = x509.load_der_x509_csr(_unpacked(payload["csr"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if not csr.is_signature_valid or sorted(names.get_values_for_type(x509.DNSName)) != sorted(order["names"]):
            raise Problem("badCSR", "the CSR is for other names")
        url = finalize["order"].replace("/order/", "/cert/")
        self._chains[url] = self._certified(csr) + self.issuer.pem
        order["polls"] = 2
        told.update(status="processing" if self.fails("processing") else "valid", certificate=url)

    def _certified(self, csr: x509.CertificateSigningRequest) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1()).public_key() if self.fails("other key") else csr.public_key()
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if self.fails("other names"):
            names = x509.SubjectAlternativeName([x509.DNSName("other.example")])
        authority = self.issuer.key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.cert.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(seconds=2))
            .not_valid_after(now + datetime.timedelta(seconds=self.life_s))
            .add_extension(names, critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        )
        return builder.sign(self.issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


class _Server(ThreadingHTTPServer):
    """Takes no notice of clients that leave."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    acme: AcmeStage
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def do_HEAD(self) -> None:
        self._send(200, {}, b"")

    def do_GET(self) -> None:
        self._answer(lambda: (200, {}, self.acme.get(self.path)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(lambda: self.acme.post(self.path, body))

    # `answer` gives the three arguments of `_send`
    def _answer(self, answer: Any) -> None:
        try:
            status, fields, body = answer()
        except Problem as problem:
            status, fields, body = problem.status, problem.fields, problem.document
        if self.acme.fails("garbage"):
            status, fields, body = 200, {"Content-Type": "text/html"}, b"<html>\x1b]0;owned</html>"
        if self.acme.fails("endless"):
            self._send(200, {"Content-Length": str(1 << 40)}, b"x" * (2 << 20))
            return
        if isinstance(body, dict):
            fields.setdefault("Content-Type", "application/json")
            body = json.dumps(body).encode()
        self._send(status, fields, body)

    def _send(self, status: int, fields: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Replay-Nonce": self.acme.nonce(), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _thumbprint(jwk: Json) -> str:
    """RFC 7638."""
    needed = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    canonical = json.dumps(needed, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
