"""One order at an ACME server, from the account to the certificate. Everything here waits: it runs in a thread."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
from acme import challenges, client, errors, messages
from acme.crypto_util import make_csr
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from josepy.errors import DeserializationError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from requests.adapters import HTTPAdapter

from pico_twisted.config.pem import server_names
from pico_twisted.config.tls import AcmeConfig
from pico_twisted.net.tls.acme.challenges import HTTP_01, TLS_ALPN_01, challenge_key
from pico_twisted.net.tls.acme.storage import Storage, key_pem, new_key

ORDER_S: Final = 180.0
"""Seconds that the server may take to validate, and then to certify."""
ANSWER_S: Final = 30.0
"""Seconds that one answer of the server may take, and of each silence in it."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""Most bytes of one answer of the server. A chain has a few thousand."""
MAX_WORDS: Final = 300
"""Most characters of the server that go into the log."""

Publish = Callable[[dict[str, str]], bool]
"""Tells all nodes what is to be answered, by the key of each, and returns when they know it; False when another node
orders for the same name, and would be answered for. Nothing to answer takes it back."""


class OrderError(Exception):
    """An order that failed, in words for an operator.

    Attributes:
        retry_after_s: seconds for which the server wants to hear nothing; 0 when it did not say so.
        refused: the server has said no. Else it was not reached, or did not make sense.
    """

    def __init__(self, words: str, *, retry_after_s: float = 0.0, refused: bool = True) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s
        self.refused = refused


class ElsewhereError(OrderError):
    """Another node orders for the same name."""

    def __init__(self) -> None:
        super().__init__("another node orders for the same names", refused=False)


@challenges.ChallengeResponse.register
class TlsAlpnResponse(challenges.KeyAuthorizationChallengeResponse):
    """Says that the challenge can be validated."""

    typ = TLS_ALPN_01


@challenges.Challenge.register
class TlsAlpn(challenges.KeyAuthorizationChallenge):
    """RFC 8737, which the library knows no more."""

    response_cls = TlsAlpnResponse
    typ = TLS_ALPN_01

    # `Any`: the signature of the library
    def validation(self, account_key: JWK, **kwargs: Any) -> str:
        return self.key_authorization(account_key)


class AcmeServer:
    """An ACME server, as an account of ours sees it.

    Args:
        config: which server, and for which names.
        storage: of the account's key.
        user_agent: how we call ourselves.
    """

    def __init__(self, config: AcmeConfig, storage: Storage, user_agent: str) -> None:
        self._config = config
        self._storage = storage
        self._user_agent = user_agent
        self._retry_after = ""

    def order(self, publish: Publish) -> bytes:
        """Order a certificate.

        Args:
            publish: see `Publish`.

        Returns:
            A key and the chain of its certificate, as PEM.

        Raises:
            OrderError: there is none.
        """
        with self._told():
            server = self._connect()
            self._sign_in(server)
            key = new_key()
            pem = key_pem(key)
            placed = server.new_order(make_csr(pem, list(self._config.names)))
            try:
                self._validate(server, placed, publish)
                done = server.finalize_order(placed, datetime.now() + timedelta(seconds=ORDER_S))  # noqa: DTZ005
            finally:
                publish({})
            return pem + self._checked(done.fullchain_pem, key.public_key().public_bytes)

    def renewal_time(self, certificate: x509.Certificate) -> datetime | None:
        """When the server suggests to renew a certificate (ARI, RFC 9773); None when it does not.

        Raises:
            OrderError: it cannot be asked.
        """
        with self._told():
            return self._connect().renewal_time(certificate.public_bytes(Encoding.PEM))[0]

    def _connect(self) -> client.ClientV2:
        key = JWKEC(key=self._storage.account_key())
        net = client.ClientNetwork(key, alg=ES256, user_agent=self._user_agent, timeout=int(ANSWER_S))
        if self._config.ca:
            # `requests` takes the name of a file there, too.
            net.verify_ssl = self._config.ca  # type: ignore[assignment]
        net.session.trust_env = False  # no proxy, no bundle and no password of the environment is used
        net.session.mount("https://", _Bounded())
        net.session.hooks["response"].append(self._note)
        self._retry_after = ""
        return client.ClientV2(client.ClientV2.get_directory(self._config.directory, net), net)

    # `Any`: what else `requests` gives to a hook
    def _note(self, response: requests.Response, **kwargs: Any) -> None:
        """The library's errors have no fields of the answer."""
        self._retry_after = "" if response.ok else response.headers.get("Retry-After", "")

    def _sign_in(self, server: client.ClientV2) -> None:
        if server.external_account_required():
            raise OrderError("the server wants an account that was made elsewhere (external account binding)")
        asked = messages.NewRegistration.from_data(email=self._config.email or None, terms_of_service_agreed=True)
        try:
            server.new_account(asked)
        except errors.ConflictError as known:
            server.net.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())

    def _validate(self, server: client.ClientV2, placed: messages.OrderResource, publish: Publish) -> None:
        key = server.net.key
        assert key is not None
        chosen: list[messages.ChallengeBody] = []
        answers: dict[str, str] = {}
        for authorization in placed.authorizations:
            if authorization.body.status == messages.STATUS_VALID:
                continue
            name = authorization.body.identifier.value
            offered = authorization.body.challenges
            body = next((one for one in offered if one.chall.typ == self._config.challenge_kind), None)
            if body is None:
                raise OrderError(f"the server does not offer {self._config.challenge_kind} for {_clean(name)}")
            chosen.append(body)
            asked_for = body.chall.encode("token") if body.chall.typ == HTTP_01 else name
            answers[challenge_key(body.chall.typ, asked_for)] = body.chall.key_authorization(key)
        if answers and not publish(answers):
            raise ElsewhereError
        for body in chosen:
            server.answer_challenge(body, body.chall.response(key))
        server.poll_authorizations(placed, datetime.now() + timedelta(seconds=ORDER_S))  # noqa: DTZ005

    def _checked(self, chain: str, public_bytes: Callable[[Encoding, PublicFormat], bytes]) -> bytes:
        """What the server gave, if it is what was ordered."""
        pem = chain.encode("ascii", "replace")
        own = x509.load_pem_x509_certificates(pem)[0]
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if own.public_key().public_bytes(*form) != public_bytes(*form):
            raise OrderError("the server gave a certificate of another key", refused=False)
        if not set(self._config.names) <= set(server_names(own)):
            raise OrderError("the server gave a certificate for other names", refused=False)
        return pem

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Put into words what goes wrong."""
        try:
            yield
        except OrderError:
            raise
        except messages.Error as error:
            raise OrderError(_problem(error), retry_after_s=_seconds(self._retry_after)) from error
        except errors.ValidationError as error:
            raise OrderError("; ".join(_failed(error.failed_authzrs)) or "the server could not validate") from error
        except errors.IssuanceError as error:
            raise OrderError(_problem(error.error)) from error
        except errors.TimeoutError as error:
            raise OrderError(f"the server was not done within {ORDER_S:g} s", refused=False) from error
        except requests.RequestException as error:
            raise OrderError(f"the server cannot be reached: {_clean(str(error))}", refused=False) from error
        except (errors.Error, DeserializationError, ValueError, LookupError, TypeError, AttributeError) as error:
            # The library takes what a server says for what it should be.
            words = f"the server's answer makes no sense: {type(error).__name__}: {_clean(str(error))}"
            raise OrderError(words, refused=False, retry_after_s=_seconds(self._retry_after)) from error


class _Bounded(HTTPAdapter):
    """Reads answers whole, up to a size and within a time: a server may send without end, or a byte now and then."""

    # `Any`: the signature of the class above
    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        response = super().send(request, *arguments, **{**named, "stream": True})
        until, body = time.monotonic() + ANSWER_S, io.BytesIO()
        for piece in response.raw.stream(16384, decode_content=True):
            body.write(piece)
            if body.tell() > MAX_ANSWER_BYTES or time.monotonic() > until:
                response.raw.close()
                raise requests.exceptions.ContentDecodingError("its answer is too long, or too slow")
        body.seek(0)
        response.raw = body
        return response


def _problem(error: messages.Error) -> str:
    """What a problem document (RFC 7807) says."""
    parts = [error, *(error.subproblems or ())]
    return "; ".join(
        f"{_clean(str(one.code or one.typ))}: {_clean(str(one.detail or one.title or ''))}" for one in parts
    )


def _failed(authorizations: Sequence[messages.AuthorizationResource]) -> Iterator[str]:
    for authorization in authorizations:
        for body in authorization.body.challenges:
            if body.error is not None:
                yield f"{_clean(authorization.body.identifier.value)} is not validated ({_problem(body.error)})"


def _seconds(retry_after: str) -> float:
    """What Retry-After (RFC 9110 10.2.3) says; 0 for nothing, or for what is no such field."""
    if retry_after.isdigit() and len(retry_after) < 9:
        return float(retry_after)
    with contextlib.suppress(ValueError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


def _clean(text: str) -> str:
    """What a server says, fit for a line of text."""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:MAX_WORDS]
