"""A client certificate of an authority that the platform does not know."""

import datetime as dt
import ssl
import time
from pathlib import Path

from certs.authority import Authority
from certs.contexts import client_context


def foreign_context(folder: Path, *, ca: Path) -> ssl.SSLContext:
    """A context that trusts the platform but presents a stranger's certificate; writes its files into `folder`."""
    stranger = Authority.create("Stranger", now=time.time()).issue_client(
        uri="spiffe://garrison/st-marys/alice", now=time.time(), lifetime=dt.timedelta(hours=1)
    )
    folder.mkdir(mode=0o700)
    certificate, key = folder / "client.pem", folder / "client-key.pem"
    certificate.write_bytes(stranger.certificate_pem)
    key.touch(mode=0o600)
    key.write_bytes(stranger.key_pem)
    return client_context(ca=ca, certificate=certificate, key=key)
