"""SEC-8: nobody is sent a JWT in plaintext, and nobody gets in without TLS 1.3 and a certificate of the platform."""

import asyncio
import contextlib
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from fixtures_server import DAY, MakeRealm, Realm

from authz.creds import Creds
from certs.authority import Authority
from certs.contexts import client_context
from runtime.bus.errors import ConnectFailedError

FAKE_INFO = b'INFO {"server_id":"x","version":"2.15.1","auth_required":true,"nonce":"abc","max_payload":1048576}\r\n'
PRECONDITION = "the same client with the right certificates gets in"


@contextlib.asynccontextmanager
async def fake_server(heard: list[bytes], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that greets first, without asking for TLS, and writes down what it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FAKE_INFO)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                heard.append(data)
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def alpha(realm: Realm) -> Creds:
    return realm.user(realm.accounts["ALPHA"])


async def refused(realm: Realm, context: ssl.SSLContext | None = None, url: str = "") -> ConnectFailedError:
    endpoint = realm.endpoint(url=url or realm.server.url)
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(alpha(realm), endpoint=replace(endpoint, tls=context or endpoint.tls), timeout=2)
    return caught.value


async def test_fake_plaintext_server_is_told_nothing(realm: Realm) -> None:
    heard: list[bytes] = []
    async with fake_server(heard) as url:
        error = await refused(realm, url=url)
    assert error.reason in ("tls", "unreachable")
    told = b"".join(heard)
    assert b"CONNECT" not in told
    assert b"eyJ" not in told


async def test_fake_plaintext_server_in_place_of_the_one_that_died_is_told_nothing(realm: Realm) -> None:
    restored = asyncio.Event()
    connection = await realm.connect(alpha(realm), on_restored=restored.set)
    await realm.server.kill()
    heard: list[bytes] = []
    tried = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FAKE_INFO)
        heard.append(await reader.read(65536))
        tried.set()
        writer.close()

    port = int(realm.server.url.rsplit(":", 1)[1])
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        await tried.wait()
    assert b"CONNECT" not in b"".join(heard)
    await realm.start()
    await restored.wait()
    assert connection.is_connected


async def test_tls_server_of_a_foreign_authority_is_told_nothing(realm: Realm) -> None:
    heard: list[bytes] = []
    foreign = Authority.create("foreign", now=time.time())
    leaf = foreign.issue_server(dns_names=["localhost"], ip_addresses=["127.0.0.1"], now=time.time(), lifetime=DAY)
    certificate, key = realm.write_leaf("foreign", leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with fake_server(heard, tls=context) as url:
        error = await refused(realm, url=url)
    assert error.reason == "tls"
    assert heard == []


async def test_server_under_another_name_is_told_nothing(realm: Realm) -> None:
    heard: list[bytes] = []
    leaf = realm.authority.issue_server(dns_names=["other.test"], ip_addresses=[], now=time.time(), lifetime=DAY)
    certificate, key = realm.write_leaf("other", leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with fake_server(heard, tls=context) as url:
        error = await refused(realm, url=url)
    assert error.reason == "tls"
    assert heard == []


async def test_client_certificate_can_not_pose_as_a_server(realm: Realm) -> None:
    heard: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*realm.client_files)
    async with fake_server(heard, tls=context) as url:
        assert (await refused(realm, url=url)).reason == "tls"
    assert heard == []


async def test_server_that_asks_for_no_proof_of_identity_is_left(realm: Realm) -> None:
    # It has a certificate of ours, but is no server of ours.
    certificate, key = realm.settings.certificate, realm.settings.private_key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        error = await refused(realm, url=f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.reason == "protocol"


def foreign_client(realm: Realm) -> ssl.SSLContext:
    certificate, key = realm.new_client_files(Authority.create("foreign", now=time.time()))
    return client_context(ca=realm.ca_file, certificate=certificate, key=key)


def without_certificate(realm: Realm) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=realm.ca_file)


def tls_1_2(realm: Realm) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=realm.ca_file)
    context.load_cert_chain(*realm.client_files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_leaf_as_client(realm: Realm) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=realm.ca_file)
    context.load_cert_chain(realm.settings.certificate, realm.settings.private_key)
    return context


def expired_certificate(realm: Realm) -> ssl.SSLContext:
    leaf = realm.authority.issue_client(
        uri="spiffe://garrison/alpha/old", now=time.time() - 5, lifetime=dt.timedelta(seconds=2)
    )
    context = ssl.create_default_context(cafile=realm.ca_file)
    context.load_cert_chain(*realm.write_leaf("expired", leaf))
    return context


@pytest.mark.parametrize(
    "context", [foreign_client, without_certificate, tls_1_2, server_leaf_as_client, expired_certificate]
)
async def test_client_without_the_right_tls_is_kept_out_whatever_its_credentials(
    realm: Realm, context: Callable[[Realm], ssl.SSLContext]
) -> None:
    assert (await realm.connect(alpha(realm))).is_connected, PRECONDITION
    assert (await refused(realm, context(realm))).reason == "tls"


async def test_plaintext_client_gets_not_even_a_greeting(realm: Realm) -> None:
    host, port = realm.server.url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    try:
        answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    assert b"INFO" not in answer
    assert b"PONG" not in answer
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_certificate_alone_identifies_nobody(realm: Realm, make_realm: MakeRealm) -> None:
    # The certificate admits to the network; without a user JWT of a known account nobody gets further.
    other = await make_realm(prepare=lambda r: r.add_account("ALPHA"), start=False)
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(other.user(other.accounts["ALPHA"]))
    assert caught.value.reason == "auth"


async def test_user_jwt_without_its_seed_is_refused(realm: Realm) -> None:
    stolen = Creds(jwt=alpha(realm).jwt, seed=alpha(realm).seed)
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(stolen)
    assert caught.value.reason == "auth"
