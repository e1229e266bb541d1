"""Who a client certificate is of: by its names, which its authority vouches for, and until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pico_twisted.core.access.refusals import REFUSALS
from pico_twisted.core.access.subject import Reason, Refused, Subject

_ODD: Final = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)


def subject_of(certificate: bytes, subjects: Mapping[str, Subject]) -> Subject | Refused:
    """Say who shows a certificate.

    Args:
        certificate: in DER. Its chain and its times were checked when the connection was made.
        subjects: by the names of their certificates, as `read_certificates` gives them.

    Returns:
        The subject of the first of its URIs that is known, or of its DNS names if it has no URI (a SPIFFE ID is a URI).
        It ends with the certificate.
    """
    try:
        read = x509.load_der_x509_certificate(certificate)
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return REFUSALS[Reason.UNKNOWN]
    except (ValueError, TypeError, UnsupportedAlgorithm, *_ODD):
        return REFUSALS[Reason.MALFORMED]
    shown = names.get_values_for_type(x509.UniformResourceIdentifier)
    shown = shown or [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    found = next(filter(None, map(subjects.get, shown)), None)
    if found is None:
        return REFUSALS[Reason.UNKNOWN]
    return attrs.evolve(found, expires_at=read.not_valid_after_utc.timestamp())
