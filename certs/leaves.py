"""Leaf certificates: what the project's authority puts into them, and the requests that ask for them.

Rules it keeps:
- keys are ECDSA P-256 when made here; a request may also bring Ed25519, nothing else
- a server leaf serves and a client leaf calls: the extended key usage has one purpose
- a client's name is a URI, `spiffe://garrison/<tenant>/<name>`; a server's are DNS names and IP addresses
- of a certificate request only the public key is used, and only after its owner has proved to hold the
  private one

It signs nothing: `authority` does. A leaf admits to the network; it says nothing about what its holder may
do there.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from certs.errors import CertificateFormatError, CertificateNameError, CertificateRequestError

AcceptedKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

REQUEST_LIMIT = 16 * 1024
_CERTIFICATE_LIMIT = 64 * 1024
_URI = re.compile(r"spiffe://garrison/[a-z0-9][a-z0-9_-]{0,62}/[A-Za-z0-9_-]{1,64}")
_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_DNS_LIMIT = 253


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """A certificate with its private key, both PEM; the key never prints."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        msg = "a private key is never pickled"
        raise TypeError(msg)


def new_client_key_and_csr() -> tuple[bytes, bytes]:
    """A new private key and the request that goes with it, both PEM; the key stays where it was made.

    The request names nobody: who signs it decides the name.
    """
    key = new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return private_pem(key), request.public_bytes(serialization.Encoding.PEM)


def read_client_request(csr_pem: bytes) -> AcceptedKey:
    """The public key of a request, once its sender has proved to hold the private one.

    Raises:
        CertificateRequestError: whatever else the bytes are.
    """
    if len(csr_pem) > REQUEST_LIMIT:
        raise CertificateRequestError(f"it is larger than {REQUEST_LIMIT} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateRequestError("it is not a PEM certificate request") from error
    accepted = _accepted(key)  # before the signature: no work for a key of 16,384 bits
    if not request.is_signature_valid:
        raise CertificateRequestError("its signature doesn't prove possession of the key")
    return accepted


def _accepted(key: object) -> AcceptedKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise CertificateRequestError("its key is neither ECDSA P-256 nor Ed25519")


def client_names(uri: str) -> x509.SubjectAlternativeName:
    """A client's one name.

    Raises:
        CertificateNameError: it is not `spiffe://garrison/<tenant>/<name>`.
    """
    if not _URI.fullmatch(uri):
        raise CertificateNameError(uri, "it must be `spiffe://garrison/<tenant>/<name>`")
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def server_names(dns_names: Sequence[str], ip_addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    """A server's names; wildcards are not among them.

    Raises:
        CertificateNameError: one is not a DNS name or IP address, or there is none at all.
    """
    names: list[x509.GeneralName] = [x509.DNSName(_dns_name(name)) for name in dict.fromkeys(dns_names)]
    names += [x509.IPAddress(_ip_address(address)) for address in dict.fromkeys(ip_addresses)]
    if not names:
        raise CertificateNameError("", "a server needs at least one DNS name or IP address")
    return x509.SubjectAlternativeName(names)


def readable_name(text: str) -> x509.Name:
    """A subject with one part, for people to read; it decides nothing. Cut to what X.509 allows."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key of the kind that every certificate made here has."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PKCS #8 PEM, in clear: whoever stores it seals it or keeps its file private."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_certificate(certificate_pem: bytes) -> x509.Certificate:
    """The first certificate in a PEM text.

    Raises:
        CertificateFormatError: there is none, or it can't be read.
    """
    if len(certificate_pem) > _CERTIFICATE_LIMIT:
        raise CertificateFormatError(f"it is larger than {_CERTIFICATE_LIMIT} bytes")
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateFormatError("no PEM certificate in it") from error


def expires_at(certificate_pem: bytes) -> int:
    """The last second, in Unix time, at which a certificate is valid.

    Raises:
        CertificateFormatError: it is not a certificate.
    """
    return int(read_certificate(certificate_pem).not_valid_after_utc.timestamp())


def _dns_name(name: str) -> str:
    if len(name) > _DNS_LIMIT or not all(_DNS_LABEL.fullmatch(label) for label in name.split(".")):
        raise CertificateNameError(name, "it is not a DNS name")
    return name


def _ip_address(text: str) -> IPAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise CertificateNameError(text, "it is not an IP address") from error
    if "%" in text:
        raise CertificateNameError(text, "a certificate has no place for a zone")
    return address
