"""Finds certificates of a CA that OpenSSL takes for self-signed ones: those of MOSN's samples.

Their subject is that of the CA, and they have no key ids. MOSN's samples even have the key of the CA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

#: What is wrong with them, and the remedy.
MISTAKEN: Final = (
    "it has the same subject as the CA that has signed it, and no authority key id: OpenSSL and new versions of Go "
    "reject it as self-signed (the certificates of MOSN's samples are like this); `pymosn certs new` makes valid ones"
)


def is_mistaken(leaf: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether a certificate looks self-signed, but a CA has signed it. `authorities`: those of its context."""
    from cryptography import x509

    if leaf.subject != leaf.issuer:
        return False
    try:
        leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        return False
    except x509.ExtensionNotFound:
        pass
    except ValueError:  # damaged extensions
        return False
    return not _has_signed(leaf, leaf) or any(other != leaf and _has_signed(other, leaf) for other in authorities)


def _has_signed(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):  # another issuer, or a kind of key that cannot be used
        return False
    return True
