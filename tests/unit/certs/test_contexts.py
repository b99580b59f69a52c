"""Handshakes in memory, under the one context that the project uses."""

import datetime as dt
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from certs.atomicfile import atomic_write
from certs.authority import Authority
from certs.contexts import client_context
from certs.errors import ContextError, LoosePermissionsError, PrivateFileError
from certs.leaves import Leaf

NOW = time.time()
HOUR = dt.timedelta(hours=1)
URI = "spiffe://garrison/st-marys/nurse-joy"


class Folder:
    """A caller's folder: authority, certificate and key as files."""

    def __init__(self, path: Path, authority: Authority, leaf: Leaf) -> None:
        path.mkdir()
        self.ca, self.certificate, self.key = path / "ca.pem", path / "client.pem", path / "client-key.pem"
        atomic_write(self.ca, authority.certificate_pem)
        atomic_write(self.certificate, leaf.certificate_pem)
        atomic_write(self.key, leaf.key_pem)

    def context(self) -> ssl.SSLContext:
        return client_context(ca=self.ca, certificate=self.certificate, key=self.key)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("test authority", now=NOW)


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Folder:
    return Folder(tmp_path / "caller", authority, authority.issue_client(uri=URI, now=NOW, lifetime=HOUR))


def server(
    path: Path,
    authority: Authority,
    *,
    leaf: Leaf | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    leaf = leaf or authority.issue_server(dns_names=["localhost"], ip_addresses=["127.0.0.1"], now=NOW, lifetime=HOUR)
    files = Folder(path / "server", authority, leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str = "localhost") -> tuple[str | None, object]:
    """The version agreed on, and the certificate that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ours.version(), theirs.getpeercert()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_caller_and_server_meet_in_mutual_tls_1_3(
    folder: Folder, tmp_path: Path, authority: Authority, host: str
) -> None:
    version, seen = handshake(folder.context(), server(tmp_path, authority), host)
    assert version == "TLSv1.3"
    assert isinstance(seen, dict)
    assert seen["subjectAltName"] == (("URI", URI),)


def test_sec_8_a_server_that_speaks_only_tls_1_2_is_refused(
    folder: Folder, tmp_path: Path, authority: Authority
) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
        handshake(folder.context(), server(tmp_path, authority, version=ssl.TLSVersion.TLSv1_2))


def test_sec_8_a_server_of_another_authority_is_refused(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder.context(), server(tmp_path, Authority.create("test authority", now=NOW)))


def test_sec_8_a_server_under_another_name_is_refused(folder: Folder, tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(folder.context(), server(tmp_path, authority), "example.org")


def test_sec_8_a_tenants_own_certificate_cannot_pose_as_the_server(
    folder: Folder, tmp_path: Path, authority: Authority
) -> None:
    posing = authority.issue_client(uri=URI, now=NOW, lifetime=HOUR)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(folder.context(), server(tmp_path, authority, leaf=posing))


def test_sec_8_an_expired_server_certificate_is_refused(folder: Folder, tmp_path: Path, authority: Authority) -> None:
    old = Authority.load(authority.certificate_pem, authority.key_pem()).issue_server(
        dns_names=["localhost"], ip_addresses=[], now=NOW - 50, lifetime=dt.timedelta(seconds=10)
    )
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(folder.context(), server(tmp_path, authority, leaf=old))


def test_sec_8_a_client_of_another_authority_is_refused_by_the_server(tmp_path: Path, authority: Authority) -> None:
    foreign = Authority.create("test authority", now=NOW).issue_client(uri=URI, now=NOW, lifetime=HOUR)
    mallory = Folder(tmp_path / "mallory", authority, foreign)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(mallory.context(), server(tmp_path, authority))


def test_sec_8_a_servers_certificate_cannot_pose_as_a_client(tmp_path: Path, authority: Authority) -> None:
    posing = authority.issue_server(dns_names=["localhost"], ip_addresses=[], now=NOW, lifetime=HOUR)
    mallory = Folder(tmp_path / "mallory", authority, posing)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(mallory.context(), server(tmp_path, authority))


def test_only_the_platforms_authority_is_trusted_and_checks_are_on(folder: Folder) -> None:
    context = folder.context()
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is context.maximum_version is ssl.TLSVersion.TLSv1_3


def test_session_keys_are_not_written_where_the_environment_says(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keylog"))
    assert folder.context().keylog_filename is None


def test_a_private_key_open_to_others_is_refused(folder: Folder) -> None:
    folder.key.chmod(0o640)
    with pytest.raises(LoosePermissionsError, match="chmod 600"):
        folder.context()


def test_a_folder_in_place_of_the_key_is_refused(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(PrivateFileError, match="not a regular file"):
        client_context(ca=folder.ca, certificate=folder.certificate, key=tmp_path)


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
@pytest.mark.parametrize("state", ["missing", "empty", "junk"])
def test_a_bad_file_is_named(folder: Folder, which: str, state: str) -> None:
    file: Path = getattr(folder, which)
    if state == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if state == "empty" else b"hello")
    with pytest.raises(ContextError) as raised:
        folder.context()
    assert raised.value.path == (file if which != "key" or state == "missing" else folder.certificate)
    assert str(raised.value).isprintable()


def test_the_key_of_another_certificate_is_refused(folder: Folder, authority: Authority) -> None:
    folder.key.write_bytes(authority.issue_client(uri=URI, now=NOW, lifetime=HOUR).key_pem)
    with pytest.raises(ContextError, match="not the key of"):
        folder.context()


def test_an_encrypted_key_is_refused_without_a_prompt(folder: Folder) -> None:
    key = serialization.load_pem_private_key(folder.key.read_bytes(), None)
    form = serialization.BestAvailableEncryption(b"x")
    folder.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form))
    with pytest.raises(ContextError, match="in clear"):
        folder.context()


def test_a_file_that_may_not_be_read_is_told_from_a_malformed_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)  # root may read everything
    with pytest.raises(ContextError, match=r"ca\.pem.*permission denied"):
        folder.context()
