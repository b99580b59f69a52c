"""What the authority signs, what it refuses, and what its certificates say."""

import base64
import datetime as dt
import ipaddress
import pickle
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import Authority
from certs.errors import (
    AuthorityError,
    CertificateFormatError,
    CertificateNameError,
    CertificateRequestError,
    LifetimeError,
)
from certs.leaves import Leaf, expires_at, new_client_key_and_csr

NOW = 1_800_000_000.75
HOUR = dt.timedelta(hours=1)
URI = "spiffe://garrison/st-marys/nurse-joy"
PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test authority", now=NOW)


def read(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def client(authority: Authority, uri: str = URI, lifetime: dt.timedelta = HOUR) -> Leaf:
    return authority.issue_client(uri=uri, now=NOW, lifetime=lifetime)


def request_pem(key: object) -> bytes:
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    algorithm = None if edwards else SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(PEM)  # type: ignore[arg-type]


def test_an_authority_signs_leaves_only(authority: Authority) -> None:
    extensions = read(authority.certificate_pem).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)


def test_an_authority_loads_from_what_it_stored_and_signs_on(authority: Authority) -> None:
    loaded = Authority.load(authority.certificate_pem, authority.key_pem())
    read(client(loaded).certificate_pem).verify_directly_issued_by(read(authority.certificate_pem))
    assert loaded.expires_at == authority.expires_at


def test_a_client_leaf_has_one_name_one_purpose_and_no_power_to_sign(authority: Authority) -> None:
    certificate = read(client(authority).certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.critical
    assert list(names.value) == [x509.UniformResourceIdentifier(URI)]
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.subject == x509.Name([])
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_server_leaf_has_its_names_and_serves_only(authority: Authority) -> None:
    leaf = authority.issue_server(
        dns_names=["localhost", "nats.example.org", "localhost"],
        ip_addresses=["127.0.0.1", "::1"],
        now=NOW,
        lifetime=HOUR,
    )
    extensions = read(leaf.certificate_pem).extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "nats.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a) for a in ("127.0.0.1", "::1")]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_certificate_never_outlives_the_end_it_was_given(authority: Authority) -> None:
    """SEC-8: the end is rounded down, so a JWT with the same end lives at least as long."""
    leaf = client(authority, lifetime=dt.timedelta(seconds=10.2))
    assert expires_at(leaf.certificate_pem) == 1_800_000_010


def test_a_certificate_starts_a_minute_ago_but_not_before_its_authority() -> None:
    authority = Authority.create("x", now=NOW)
    early = read(client(authority).certificate_pem).not_valid_before_utc.timestamp()
    late = authority.issue_client(uri=URI, now=NOW + 3600, lifetime=HOUR)
    assert early == 1_799_999_940
    assert read(late.certificate_pem).not_valid_before_utc.timestamp() == 1_800_003_540


def test_a_certificate_cannot_outlive_its_authority() -> None:
    authority = Authority.create("x", now=NOW, lifetime=HOUR)
    client(authority, lifetime=HOUR)
    with pytest.raises(LifetimeError, match="outlive its authority"):
        client(authority, lifetime=HOUR + dt.timedelta(seconds=1))


@pytest.mark.parametrize(
    ("now", "lifetime"),
    [
        (NOW, dt.timedelta()),
        (NOW, -HOUR),
        (NOW, dt.timedelta(milliseconds=999)),
        (NOW, dt.timedelta.max),
        (float("nan"), HOUR),
        (float("inf"), HOUR),
        (-1e300, HOUR),
        (-62135596800.0, HOUR),
    ],
)
def test_a_senseless_lifetime_is_refused(authority: Authority, now: float, lifetime: dt.timedelta) -> None:
    with pytest.raises(LifetimeError):
        authority.issue_client(uri=URI, now=now, lifetime=lifetime)
    with pytest.raises(LifetimeError):
        Authority.create("x", now=now, lifetime=lifetime)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://garrison",
        "spiffe://garrison/st-marys",
        "spiffe://garrison/st-marys/",
        "spiffe://garrison/st-marys/a/b",
        "spiffe://garrison/../a",
        "spiffe://garrison/St-Marys/a",
        "spiffe://garrison/st-marys/*",
        "spiffe://garrison/st-marys/a.b",
        "spiffe://garrison/st-marys/a\n",
        "spiffe://garrison/st-marys/ä",
        "spiffe://other/st-marys/a",
        "https://garrison/st-marys/a",
        f"spiffe://garrison/{'a' * 64}/a",
        f"spiffe://garrison/a/{'a' * 65}",
        "spiffe://garrison/st-marys/a" + "\x1b[31m" * 100,
    ],
)
def test_a_client_name_that_is_not_a_tenants_is_refused_in_one_printable_line(authority: Authority, uri: str) -> None:
    with pytest.raises(CertificateNameError) as raised:
        client(authority, uri=uri)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("dns", "ips"),
    [
        ([], []),
        ([""], []),
        (["*"], []),
        (["*.example.org"], []),
        (["a..b"], []),
        (["-a"], []),
        (["a."], []),
        (["a b"], []),
        (["a\0.example.org"], []),
        (["bücher.example"], []),
        (["a" * 64], []),
        ([".".join(["abc"] * 70)], []),
        ([], ["127.0.0"]),
        ([], ["127.0.0.1/8"]),
        ([], ["localhost"]),
        ([], ["fe80::1%eth0"]),
    ],
)
def test_a_server_name_that_is_none_is_refused(authority: Authority, dns: list[str], ips: list[str]) -> None:
    with pytest.raises(CertificateNameError):
        authority.issue_server(dns_names=dns, ip_addresses=ips, now=NOW, lifetime=HOUR)


def test_a_request_is_signed_for_the_key_that_made_it(authority: Authority) -> None:
    key_pem, csr = new_client_key_and_csr()
    certificate = read(authority.sign_client_request(csr, uri=URI, now=NOW, lifetime=HOUR))
    key = serialization.load_pem_private_key(key_pem, None)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(read(authority.certificate_pem))


def test_an_ed25519_request_is_signed_too(authority: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    signed = authority.sign_client_request(request_pem(key), uri=URI, now=NOW, lifetime=HOUR)
    assert read(signed).public_key() == key.public_key()


def test_of_a_request_nothing_but_the_key_is_used(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://garrison/platform/root")]),
            critical=False,
        )
        .sign(key, SHA256())
        .public_bytes(PEM)
    )
    certificate = read(authority.sign_client_request(greedy, uri=URI, now=NOW, lifetime=HOUR))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(URI)]
    assert certificate.subject == x509.Name([])
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_request_with_another_key_put_in_is_refused(authority: Authority) -> None:
    """Proof of possession: nobody gets a certificate for a key that they only know the public half of."""
    mine, victims = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    der = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(mine, SHA256())

    def point(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    forged = der.public_bytes(serialization.Encoding.DER).replace(point(mine), point(victims))
    pem = x509.load_der_x509_csr(forged).public_bytes(PEM)
    with pytest.raises(CertificateRequestError, match="prove possession"):
        authority.sign_client_request(pem, uri=URI, now=NOW, lifetime=HOUR)


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate,
    ],
    ids=["rsa", "p384", "k256", "ed448"],
)
def test_a_request_with_another_kind_of_key_is_refused(authority: Authority, key: Callable[[], object]) -> None:
    with pytest.raises(CertificateRequestError, match=r"neither ECDSA P-256 nor Ed25519"):
        authority.sign_client_request(request_pem(key()), uri=URI, now=NOW, lifetime=HOUR)


def test_a_request_signed_by_an_unknown_algorithm_is_refused(authority: Authority) -> None:
    der = x509.load_pem_x509_csr(new_client_key_and_csr()[1]).public_bytes(serialization.Encoding.DER)
    ecdsa_with_sha256 = bytes.fromhex("2a8648ce3d040302")
    unknown = der.replace(ecdsa_with_sha256, bytes.fromhex("2a8648ce3d04037f"))
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%b-----END CERTIFICATE REQUEST-----\n" % base64.encodebytes(unknown)
    with pytest.raises(CertificateRequestError, match="prove possession"):
        authority.sign_client_request(pem, uri=URI, now=NOW, lifetime=HOUR)


@pytest.mark.parametrize("junk", [b"", b"hello", b"\x00" * 100, b"x" * 20_000])
def test_a_request_that_is_none_is_refused(authority: Authority, junk: bytes) -> None:
    with pytest.raises(CertificateRequestError):
        authority.sign_client_request(junk, uri=URI, now=NOW, lifetime=HOUR)
    with pytest.raises(CertificateRequestError):
        authority.sign_client_request(authority.certificate_pem, uri=URI, now=NOW, lifetime=HOUR)


def test_an_authority_with_anothers_key_is_refused(authority: Authority) -> None:
    other = Authority.create("other", now=NOW)
    with pytest.raises(AuthorityError, match="belongs to another certificate"):
        Authority.load(authority.certificate_pem, other.key_pem())


def test_a_leaf_is_no_authority(authority: Authority) -> None:
    leaf = client(authority)
    with pytest.raises(AuthorityError, match="not a self-signed authority's"):
        Authority.load(leaf.certificate_pem, leaf.key_pem)


def test_a_self_signed_leaf_is_no_authority() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    start = dt.datetime.fromtimestamp(NOW, tz=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + HOUR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    key_pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(AuthorityError, match="a leaf's"):
        Authority.load(certificate.public_bytes(PEM), key_pem)


def test_an_authority_of_another_kind_of_key_or_none_is_refused(authority: Authority) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    pem = p384.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    sealed = p384.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))
    for certificate, key, reason in (
        (authority.certificate_pem, pem, "not ECDSA P-256"),
        (authority.certificate_pem, sealed, "in clear"),
        (authority.certificate_pem, b"junk", "in clear"),
        (b"junk", authority.key_pem(), "no PEM certificate"),
        (b"x" * 100_000, authority.key_pem(), "larger than"),
    ):
        with pytest.raises(AuthorityError, match=reason):
            Authority.load(certificate, key)


def test_the_end_of_something_else_is_not_told() -> None:
    with pytest.raises(CertificateFormatError):
        expires_at(b"junk")


def test_private_keys_are_neither_printed_nor_pickled(authority: Authority) -> None:
    leaf = client(authority)
    body = leaf.key_pem.splitlines()[1].decode()
    assert body not in repr(leaf) + str(leaf)
    assert "redacted" in repr(authority)
    for secret in (leaf, authority):
        with pytest.raises(TypeError):
            pickle.dumps(secret)
