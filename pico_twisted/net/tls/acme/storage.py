"""Where the account's key and the certificate are kept between starts: files that only we may read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pico_twisted.config.pem import UnusableCertificateError, load_key, load_pair
from pico_twisted.config.replacing import replace_file
from pico_twisted.config.tls import AcmeConfig

ACCOUNT: Final = "account.key"
"""Name of the file of the account's key."""

MAX_HOLD_S: Final = 7 * 24 * 3600.0
"""Most seconds for which nothing is ordered, whatever the file says: the longest limit that is known is of a week."""

STOP_GAP: Final = timedelta(days=7)
"""For how long a certificate of our own is valid. It is soon enough warned of."""


class Storage:
    """The directory of one certificate and of its account.

    Args:
        config: says where.
    """

    def __init__(self, config: AcmeConfig) -> None:
        self.config = config
        self.directory = os.path.dirname(config.certificate_file)
        self.hold_file = os.path.join(self.directory, "hold")

    def prepare(self) -> None:
        """Make the directory, and a certificate of our own when there is none yet: ports have to show something.

        Raises:
            OSError: that cannot be done.
        """
        self._make(self.directory)
        if not os.path.exists(self.config.certificate_file):
            key = new_key()
            made = self_signed(key, self.config.names, STOP_GAP)
            self.keep_certificate(key_pem(key) + made.public_bytes(Encoding.PEM))

    def account_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of the account; a new one when there is none.

        Raises:
            OSError: it cannot be written.
            UnusableCertificateError: what is there cannot be used.
        """
        path = os.path.join(self.directory, ACCOUNT)
        if not os.path.exists(path):
            replace_file(path, key_pem(new_key()))
        key = load_key(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UnusableCertificateError(path, "holds a key of another kind than P-256")
        return key

    def certificate(self) -> x509.Certificate | None:
        """The certificate that is there, if it can be used, is for all names, and is not our own."""
        try:
            own = load_pair(self.config.certificate_file, self.config.certificate_file).chain[0]
            names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (UnusableCertificateError, x509.ExtensionNotFound, ValueError):
            return None
        if own.issuer == own.subject or not set(self.config.names) <= set(names.get_values_for_type(x509.DNSName)):
            return None
        return own

    def keep_certificate(self, pem: bytes) -> None:
        """Put a key and its chain in the place of what is there."""
        replace_file(self.config.certificate_file, pem)

    def hold(self, until: float) -> None:
        """Remember until when nothing is to be ordered, in Unix time."""
        replace_file(self.hold_file, b"%d\n" % until)

    def hold_until(self) -> float:
        """Until when nothing is to be ordered, in Unix time; 0.0 when that is not known."""
        try:
            with open(self.hold_file, "rb") as file:
                return min(float(file.read(32)), time.time() + MAX_HOLD_S)
        except (OSError, ValueError):
            return 0.0

    @contextlib.contextmanager
    def ordering(self) -> Iterator[bool]:
        """Have the directory for an order; whether nobody else has it, of all processes that share it."""
        with open(os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _make(self, directory: str) -> None:
        """Make a directory and what is missing above it, for whom the one above that belongs to."""
        above = os.path.dirname(directory)
        if not os.path.isdir(above):
            self._make(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            _give(directory, above)


def _give(made: str, directory: str) -> None:
    """Give what root has made to whom a directory belongs to: a daemon lays its privileges down behind its start."""
    if os.geteuid() == 0:
        owner = os.stat(directory)
        os.chown(made, owner.st_uid, owner.st_gid)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of a kind that all ACME servers and clients know."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as a file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_signed(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str], valid: timedelta, *further: x509.ExtensionType
) -> x509.Certificate:
    """A certificate that nobody but ourselves has signed.

    Args:
        key: its own.
        names: host names that it is for, at least one.
        valid: from now on.
        further: critical extensions of it.
    """
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pico, not yet certified")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    for extension in further:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256())
