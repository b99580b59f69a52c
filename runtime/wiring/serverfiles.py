"""Writes what nats-server needs before it starts: configuration, TLS files, and first account JWTs.

Rules it keeps: SEC-9, an account's JWT that the server has is never written over (an older one would bring revoked
users back); private files are written 0600 and whole.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from certs.atomicfile import atomic_write
from runtime.bus.serverconfig import ServerSettings, render
from runtime.control.bootstrap import PlatformKeys

CERTIFICATE_LIFETIME = dt.timedelta(days=365)
_HOST_NAMES = ("localhost",)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFiles:
    """Where nats-server's files are, below the platform's `server/` folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """The rendered configuration."""
        return self.folder / "server.conf"

    @property
    def ca(self) -> Path:
        """The authority that clients and the server are trusted by."""
        return self.folder / "tls" / "ca.pem"

    @property
    def own_certificate(self) -> Path:
        """The control plane's client certificate."""
        return self.folder / "tls" / "control.pem"

    @property
    def own_key(self) -> Path:
        """Its private key."""
        return self.folder / "tls" / "control-key.pem"

    @property
    def run(self) -> Path:
        """Where the server writes its port."""
        return self.folder / "run"


def write_server_files(files: ServerFiles, keys: PlatformKeys, *, host: str, port: int, now: float) -> None:
    """Write everything for a start on `host`:`port` (-1: any free port); repeats safely.

    Certificates of the server and of the control plane are made anew at each start.

    Raises:
        OSError: The folder cannot be written.
    """
    tls, resolver = files.folder / "tls", files.folder / "accounts"
    for folder in (tls, resolver, files.run):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    leaf = keys.authority.issue_server(
        dns_names=_HOST_NAMES, ip_addresses=(host,), now=now, lifetime=CERTIFICATE_LIFETIME
    )
    atomic_write(tls / "server.pem", leaf.certificate_pem)
    atomic_write(tls / "server-key.pem", leaf.key_pem)
    own = keys.authority.issue_client(
        uri="spiffe://garrison/platform/control-plane", now=now, lifetime=CERTIFICATE_LIFETIME
    )
    atomic_write(files.own_certificate, own.certificate_pem)
    atomic_write(files.own_key, own.key_pem)
    atomic_write(files.ca, keys.authority.certificate_pem)
    for account, token in keys.initial_account_jwts().items():
        path = resolver / f"{account}.jwt"
        if not path.exists():  # SEC-9
            atomic_write(path, token.encode())
    settings = ServerSettings(
        host=host,
        port=port,
        server_name="garrison",
        operator_jwt=keys.operator_jwt(),
        system_account=str(keys.sys.public),
        resolver_dir=resolver,
        store_dir=files.folder / "jetstream",
        certificate=tls / "server.pem",
        private_key=tls / "server-key.pem",
        client_ca=files.ca,
    )
    atomic_write(files.config, render(settings).encode())
