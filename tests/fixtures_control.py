"""A whole platform short of hosts: real server, real key store, the control plane, and callers who connect to it.

`live` is a running one. Its folder survives `stop_plane`, `server.kill` and `start`, as a platform's does.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_harness import QUICK, RefusedError
from signed_requests import signed_request

from authz.creds import Creds
from authz.keys import UserSeed
from authz.tokens import decode_user
from certs.contexts import client_context
from certs.keystore import KeyStore
from certs.leaves import new_client_key_and_csr
from certs.masterkey import MasterKey
from runtime.bus import subjects
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.server import EmbeddedServer
from runtime.bus.serverconfig import ServerSettings, render
from runtime.control.accounts import CONTROL_PAYLOAD
from runtime.control.bootstrap import PlatformCredentials, ensure_platform
from runtime.control.limits import ControlLimits
from runtime.control.plane import ControlPlane
from runtime.control.start import start_control_plane
from runtime.envelope.messages import Failure, parse_response

LIVE = dataclasses.replace(QUICK, poll_hold_s=0.5, maintenance_s=0.2, host_lease_s=2.0)
DAY_S = 24 * 3600


class LivePlatform:
    """One platform in one folder."""

    def __init__(self, folder: Path, limits: ControlLimits = LIVE) -> None:
        self.folder, self.limits = folder, limits
        for name in ("resolver", "store", "tls", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.keystore = open_keystore(folder)
        self.platform = ensure_platform(self.keystore, time.time())
        self.plane: ControlPlane | None = None
        self._open: list[Connection] = []
        self._own: list[Connection] = []
        self._tls_numbers = iter(range(1, 10_000))
        self.server = EmbeddedServer(folder / "server.conf", folder / "server.log", folder / "run")
        self._write_server_files()
        self._tls = self.client_tls("caller")

    def _write_server_files(self) -> None:
        authority = self.platform.authority
        leaf = authority.issue_server(
            dns_names=["localhost"], ip_addresses=["127.0.0.1"], now=time.time(), lifetime=_days(1)
        )
        for name, content in (
            ("server.pem", leaf.certificate_pem),
            ("server-key.pem", leaf.key_pem),
            ("ca.pem", authority.certificate_pem),
        ):
            self._private(self.folder / "tls" / name, content)
        for account, jwt in self.platform.initial_account_jwts().items():
            path = self.folder / "resolver" / f"{account}.jwt"
            if not path.exists():  # SEC-9: never over what the resolver has
                self._private(path, jwt.encode())

    async def start_server(self) -> None:
        """Start, or start again on the same port."""
        port = int(self.server.url.rsplit(":", 1)[1]) if self.server.url else -1
        settings = ServerSettings(
            host="127.0.0.1",
            port=port,
            server_name="live",
            operator_jwt=self.platform.operator_jwt(),
            system_account=self.platform.sys.public.text,
            resolver_dir=self.folder / "resolver",
            store_dir=self.folder / "store",
            certificate=self.folder / "tls/server.pem",
            private_key=self.folder / "tls/server-key.pem",
            client_ca=self.folder / "tls/ca.pem",
        )
        (self.folder / "server.conf").write_text(render(settings), encoding="utf-8")
        await self.server.start()

    async def start_plane(self) -> ControlPlane:
        credentials = PlatformCredentials(self.platform, time.time)
        control = await connect(self.endpoint(CONTROL_PAYLOAD), credentials.control_creds, name="control")
        system = await connect(
            self.endpoint(CONTROL_PAYLOAD),
            credentials.system_creds,
            name="system",
            on_restored=lambda: self.plane and self.plane.server_returned(),
        )
        self._own = [control, system]
        self.plane = await start_control_plane(
            control=control,
            system=system,
            keystore=self.keystore,
            authority=self.platform.authority,
            platform=self.platform,
            clock=time.time,
            limits=self.limits,
        )
        return self.plane

    async def stop_plane(self) -> None:
        if self.plane is not None:
            await self.plane.stop()
            self.plane = None
        for connection in self._own:
            await connection.close()

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()
        with contextlib.suppress(Exception):
            await self.stop_plane()
        await self.server.kill()

    def client_tls(self, name: str) -> Any:
        leaf = self.platform.authority.issue_client(
            uri=f"spiffe://garrison/platform/{name}", now=time.time(), lifetime=_days(1)
        )
        number = next(self._tls_numbers)
        certificate, key = self.folder / f"tls/c{number}.pem", self.folder / f"tls/c{number}-key.pem"
        self._private(certificate, leaf.certificate_pem)
        self._private(key, leaf.key_pem)
        return client_context(ca=self.folder / "tls/ca.pem", certificate=certificate, key=key)

    def endpoint(self, max_payload: int = 262_144) -> Endpoint:
        return Endpoint(url=self.server.url, tls=self._tls, max_payload=max_payload)

    async def connect(self, creds: Creds, **options: Any) -> "LiveCaller":
        connection = await connect(self.endpoint(), lambda: creds, **{"name": "caller", **options})
        self._open.append(connection)
        return LiveCaller(connection, creds)

    async def platform_creds(self, role: str, name: str, ttl_s: int = 3600) -> Creds:
        assert self.plane is not None
        seed = UserSeed.generate()
        _, csr = new_client_key_and_csr()
        issued = await self.plane.issue_platform_credential(
            role=role, name=name, user=seed.public.text, csr=csr, ttl_s=ttl_s
        )
        return Creds(jwt=issued.jwt, seed=seed)

    async def operator(self) -> "LiveCaller":
        return await self.connect(await self.platform_creds("operator", "root"))

    async def host(self, name: str = "local") -> "LiveCaller":
        return await self.connect(await self.platform_creds("host", name))

    def _private(self, path: Path, content: bytes) -> None:
        path.touch(mode=0o600)
        path.write_bytes(content)


class LiveCaller:
    """Someone connected."""

    def __init__(self, connection: Connection, creds: Creds) -> None:
        self.connection, self.creds = connection, creds

    async def ask(self, command: str, target: str, data: object = None, timeout: float = 10) -> dict[str, Any]:  # noqa: ASYNC109
        account = decode_user(self.creds.jwt, now=None).account.text
        body, headers = signed_request(self.creds.seed, account, command, target, data)
        answer = await self.connection.request(subjects.admin(command, target), body, timeout=timeout, headers=headers)
        parsed = parse_response(
            answer.data,
            error_code=answer.header("Nats-Service-Error-Code"),
            error_text=answer.header("Nats-Service-Error"),
        )
        if isinstance(parsed, Failure):
            raise RefusedError(parsed)
        result: dict[str, Any] = json.loads(parsed.result)
        return result

    async def issue(self, tenant: str, name: str, role: str, ttl_s: int = 600, seed: UserSeed | None = None) -> Creds:
        seed = seed or UserSeed.generate()
        _, csr = new_client_key_and_csr()
        body = {"name": name, "role": role, "ttl_s": ttl_s, "user": seed.public.text, "csr": csr.decode()}
        issued = await self.ask("credentials.issue", tenant, body)
        return Creds(jwt=issued["jwt"], seed=seed)


def open_keystore(folder: Path) -> KeyStore:
    """The key store of a platform's folder."""
    return KeyStore(folder / "keys", MasterKey.load(directory=folder, environ={}))


def _days(days: int) -> Any:
    import datetime as dt

    return dt.timedelta(days=days)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LivePlatform]:
    folder = tmp_path / "platform"
    folder.mkdir(mode=0o700)
    platform = LivePlatform(folder)
    try:
        await platform.start_server()
        await platform.start_plane()
        yield platform
    finally:
        await platform.close()
