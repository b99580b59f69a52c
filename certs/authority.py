"""The platform's private certificate authority: one self-signed P-256 root that signs leaves itself.

Rules it keeps:
- it signs leaves and nothing that could sign further (`pathlen:0`)
- SEC-8: a certificate has an end, and never after the authority's own; the caller sets it no later than
  that of the JWT that goes with it
- time is passed in, as Unix seconds, and everything is rounded towards the shorter life

It stores nothing, and keeps no list of what it signed: certificates are short-lived, and the JWT is what
gets revoked.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import AuthorityError, CertificateFormatError, LifetimeError
from certs.leaves import (
    AcceptedKey,
    Leaf,
    client_names,
    new_key,
    private_pem,
    read_certificate,
    read_client_request,
    readable_name,
    server_names,
)

AUTHORITY_LIFETIME: Final = dt.timedelta(days=3653)
BACKDATING: Final = dt.timedelta(minutes=1)  # for machines whose clocks are a little behind
_NOTHING_ELSE: Final = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}
# What `cryptography` raises, late, for a certificate that it loaded and that turns out malformed or not to verify.
_NOT_AN_AUTHORITY: Final = (
    InvalidSignature,
    UnsupportedAlgorithm,
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)


class Authority:
    """A certificate authority in memory, its private key included; never prints it."""

    __slots__ = ("_certificate", "_key", "certificate_pem")

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """For a pair known to belong together: use `create` or `load`."""
        self._certificate, self._key = certificate, key
        self.certificate_pem: Final = certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def create(cls, common_name: str, *, now: float, lifetime: dt.timedelta = AUTHORITY_LIFETIME) -> "Authority":
        """A new authority with a new key.

        Raises:
            LifetimeError: the lifetime is less than a second.
        """
        key, name = new_key(), readable_name(common_name)
        start, end = _validity(now, lifetime)
        builder = (
            x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, SHA256()), key)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> "Authority":
        """An authority that `create` made before.

        Raises:
            AuthorityError: unreadable, not an authority's certificate, or the key of another.
        """
        try:
            certificate = read_certificate(certificate_pem)
        except CertificateFormatError as error:
            raise AuthorityError(f"its certificate is {error}") from error
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Not chained: a parser's text about a private key is best kept out of logs.
            raise AuthorityError("its key is not a PEM private key in clear") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise AuthorityError("its key is not ECDSA P-256")
        _check_pair(certificate, key)
        return cls(certificate, key)

    def key_pem(self) -> bytes:
        """The private key, PKCS #8 PEM in clear: for the key store."""
        return private_pem(self._key)

    @property
    def expires_at(self) -> int:
        """The last second, in Unix time, at which anything signed here is valid."""
        return int(self._certificate.not_valid_after_utc.timestamp())

    def issue_server(
        self, *, dns_names: Sequence[str], ip_addresses: Sequence[str], now: float, lifetime: dt.timedelta
    ) -> Leaf:
        """A new key and a certificate to serve under these names.

        Raises:
            CertificateNameError: a name is not a DNS name or IP address, or there is none.
            LifetimeError: less than a second, or beyond the authority's own end.
        """
        names, key = server_names(dns_names, ip_addresses), new_key()
        certificate = self._sign(key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, now, lifetime)
        return Leaf(certificate_pem=certificate, key_pem=private_pem(key))

    def issue_client(self, *, uri: str, now: float, lifetime: dt.timedelta) -> Leaf:
        """A new key and a client's certificate for `uri`.

        Raises:
            CertificateNameError: `uri` is not `spiffe://garrison/<tenant>/<name>`.
            LifetimeError: less than a second, or beyond the authority's own end.
        """
        names, key = client_names(uri), new_key()
        certificate = self._sign(key.public_key(), names, ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)
        return Leaf(certificate_pem=certificate, key_pem=private_pem(key))

    def sign_client_request(self, csr_pem: bytes, *, uri: str, now: float, lifetime: dt.timedelta) -> bytes:
        """A client's certificate, PEM, for the key in a request; nothing else in the request is used.

        Raises:
            CertificateRequestError: malformed, without proof of possession, or a kind of key not accepted.
            CertificateNameError: `uri` is not `spiffe://garrison/<tenant>/<name>`.
            LifetimeError: less than a second, or beyond the authority's own end.
        """
        names, key = client_names(uri), read_client_request(csr_pem)
        return self._sign(key, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)

    def _sign(
        self,
        key: AcceptedKey,
        names: x509.SubjectAlternativeName,
        purpose: x509.ObjectIdentifier,
        now: float,
        lifetime: dt.timedelta,
    ) -> bytes:
        start, end = _validity(now, lifetime)
        if end > self._certificate.not_valid_after_utc:
            raise LifetimeError(f"it would outlive its authority, which ends at {self.expires_at}")
        if end <= self._certificate.not_valid_before_utc:
            raise LifetimeError("it would end before its authority begins: is the clock right?")
        issuer_key = self._key.public_key()
        # The subject stays empty, and the names critical: there is one place to read a name from.
        builder = (
            x509.CertificateBuilder(issuer_name=self._certificate.subject, subject_name=x509.Name([]), public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(start, self._certificate.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(names, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )
        return builder.sign(self._key, SHA256()).public_bytes(serialization.Encoding.PEM)

    def __repr__(self) -> str:
        return f"Authority({self._certificate.subject.rfc4514_string()!r}, <key redacted>)"

    def __reduce__(self) -> NoReturn:
        msg = "an authority's key is never pickled"
        raise TypeError(msg)


def _validity(now: float, lifetime: dt.timedelta) -> tuple[dt.datetime, dt.datetime]:
    """First and last second; `now + lifetime` is rounded down, so that no certificate outlives its JWT."""
    try:
        moment = dt.datetime.fromtimestamp(now, tz=dt.UTC)
        start, end = (moment - BACKDATING).replace(microsecond=0), (moment + lifetime).replace(microsecond=0)
    except (OverflowError, ValueError, OSError) as error:
        raise LifetimeError("its time is out of range") from error
    if lifetime < dt.timedelta(seconds=1):
        raise LifetimeError("its lifetime is less than a second")
    return start, end


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        **_NOTHING_ELSE,
    )


def _check_pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """A self-signed authority certificate, and the key that it is for."""
    try:
        belongs = certificate.public_key() == key.public_key()
        if belongs:
            certificate.verify_directly_issued_by(certificate)
            authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _NOT_AN_AUTHORITY as error:
        raise AuthorityError("its certificate is not a self-signed authority's") from error
    if not belongs:
        raise AuthorityError("its key belongs to another certificate")
    if not authority:
        raise AuthorityError("its certificate is a leaf's")
