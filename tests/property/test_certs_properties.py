"""Whatever bytes arrive, the parsers of `certs` give a result or their own error, and what was sealed comes back."""

import base64
import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import example, given, settings
from hypothesis import strategies as st

from certs.authority import Authority
from certs.errors import (
    AuthorityError,
    CertificateFormatError,
    CertificateNameError,
    CertificateRequestError,
    KeyDamagedError,
    KeyNameError,
    LifetimeError,
    MasterKeyError,
)
from certs.keystore import KeyStore
from certs.leaves import client_names, expires_at, new_client_key_and_csr, read_client_request, server_names
from certs.masterkey import MasterKey

# The library warns of a certificate with a negative serial number, and will refuse it one day.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
NOW = 1_800_000_000.0
MASTER = MasterKey(MasterKey.generate(), source="a test")
AUTHORITY = Authority.create("test authority", now=NOW)
_, REQUEST = new_client_key_and_csr()
ED25519_REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(x509.Name([]))
    .sign(ed25519.Ed25519PrivateKey.generate(), None)
    .public_bytes(serialization.Encoding.PEM)
)
# SEQUENCE { SEQUENCE { INTEGER 0 ...: the version is the first number, and only 0 is known.
REQUEST_OF_AN_UNKNOWN_VERSION = b"-----BEGIN CERTIFICATE REQUEST-----\n%b-----END CERTIFICATE REQUEST-----\n" % (
    base64.encodebytes(
        base64.b64decode(b"".join(REQUEST.splitlines()[1:-1])).replace(b"\x02\x01\x00", b"\x02\x01\x09", 1)
    )
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,8}(/[A-Za-z0-9][A-Za-z0-9_.:@-]{0,8}){0,3}", fullmatch=True)


@pytest.fixture(scope="module")
def store() -> Iterator[KeyStore]:
    with tempfile.TemporaryDirectory() as folder:
        yield KeyStore(Path(folder) / "keys", MASTER)


def check_clear(error: Exception, *, never: str = "") -> None:
    """One printable line that does not hold, nor chain to, what must not be shown."""
    assert str(error).isprintable()
    assert not never or never not in f"{error} {error.__cause__}"


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A real input with a few bytes overwritten, a part cut out, or a part repeated."""
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, len(whole)))
    return whole[:start] + draw(st.one_of(st.binary(max_size=40), st.just(whole[start:end] * 2))) + whole[end:]


def inner(pem: bytes) -> bytes:
    """The DER inside a PEM block."""
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


@st.composite
def damaged_inside(draw: st.DrawFn, pem: bytes) -> bytes:
    """A PEM block, whole, around DER of which up to three bytes were changed."""
    der = bytearray(inner(pem))
    for _ in range(draw(st.integers(1, 3))):
        der[draw(st.integers(0, len(der) - 1))] = draw(st.integers(0, 255))
    first, *_, last = pem.splitlines()
    return b"%b\n%b%b\n" % (first, base64.encodebytes(bytes(der)), last)


@given(
    st.one_of(
        st.binary(max_size=3000),
        damaged(REQUEST),
        damaged_inside(REQUEST),
        damaged_inside(ED25519_REQUEST),
        damaged(AUTHORITY.certificate_pem),
    )
)
@settings(max_examples=400)
@example(REQUEST_OF_AN_UNKNOWN_VERSION)
def test_p7_a_request_is_accepted_or_refused_by_one_error(text: bytes) -> None:
    try:
        read_client_request(text)
    except CertificateRequestError as error:
        check_clear(error)


@given(
    st.one_of(st.binary(max_size=3000), damaged(AUTHORITY.certificate_pem), damaged_inside(AUTHORITY.certificate_pem))
)
@settings(max_examples=300)
def test_p7_a_certificate_is_read_or_refused_by_one_error(text: bytes) -> None:
    try:
        expires_at(text)
    except CertificateFormatError as error:
        check_clear(error)


@given(
    st.one_of(
        st.just(AUTHORITY.certificate_pem),
        damaged(AUTHORITY.certificate_pem),
        damaged_inside(AUTHORITY.certificate_pem),
    ),
    st.one_of(st.just(AUTHORITY.key_pem()), damaged(AUTHORITY.key_pem()), damaged_inside(AUTHORITY.key_pem())),
)
@settings(max_examples=400)
def test_p7_an_authority_loads_or_is_refused_by_one_error_without_its_key(certificate: bytes, key: bytes) -> None:
    try:
        Authority.load(certificate, key)
    except AuthorityError as error:
        check_clear(error, never="PRIVATE")


@given(st.text(max_size=100), st.text(max_size=100))
def test_p7_a_name_goes_into_a_certificate_as_it_is_or_not_at_all(name: str, address: str) -> None:
    for build in (lambda: client_names(name), lambda: server_names([name], []), lambda: server_names([], [address])):
        try:
            assert len(list(build())) == 1
        except CertificateNameError as error:
            check_clear(error)


@given(st.floats(), st.timedeltas())
@settings(max_examples=60)
def test_p7_any_moment_and_lifetime_give_a_certificate_that_ends_in_time_or_an_error(
    now: float, lifetime: dt.timedelta
) -> None:
    try:
        leaf = AUTHORITY.issue_client(uri="spiffe://garrison/a/b", now=now, lifetime=lifetime)
    except LifetimeError as error:
        check_clear(error)
    else:
        assert expires_at(leaf.certificate_pem) <= min(now + lifetime.total_seconds(), AUTHORITY.expires_at)


@given(st.text(max_size=80))
def test_p7_p8_a_master_key_is_32_bytes_or_an_error_that_does_not_repeat_it(text: str) -> None:
    try:
        MasterKey(text, source="a test")
    except MasterKeyError as error:
        check_clear(error, never=text if len(text) > 12 else "")


@given(name=NAMES, data=st.binary(max_size=2000))
@settings(max_examples=60)
def test_what_is_stored_comes_back_under_its_name(store: KeyStore, name: str, data: bytes) -> None:
    store.put(name, data)
    assert store.get(name) == data
    assert name in store.names()


@given(names=st.sets(NAMES, min_size=2, max_size=8))
@settings(max_examples=25)
def test_no_two_names_share_a_file(store: KeyStore, names: set[str]) -> None:
    for name in names:
        store.put(name, name.encode())
    assert {name: store.get(name) for name in names} == {name: name.encode() for name in names}


@given(st.text(max_size=220))
def test_p7_any_text_is_a_key_name_or_refused_and_stays_in_the_folder(store: KeyStore, name: str) -> None:
    try:
        store.put(name, b"x")
    except KeyNameError as error:
        check_clear(error)
    else:
        assert store.get(name) == b"x"
        store.delete(name)
    assert [entry for entry in os.listdir(store.directory.parent) if entry != "keys"] == []  # noqa: PTH208


@given(data=st.data())
def test_p7_a_damaged_key_file_opens_to_what_was_sealed_or_not_at_all(store: KeyStore, data: st.DataObject) -> None:
    store.put("damaged", b"sealed")
    file = store.directory / "damaged"
    file.write_bytes(data.draw(st.one_of(st.binary(max_size=400), damaged(file.read_bytes()))))
    try:
        assert store.get("damaged") == b"sealed"
    except KeyDamagedError as error:
        check_clear(error)
