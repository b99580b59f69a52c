"""The platform's own people and processes: the first operator's folder, and the local host's.

Both are ordinary credentials of the tenant PLATFORM. They are issued at start unless what is there still serves, and
again at two thirds of their life for as long as the platform runs; running clients pick the new ones up when they
reconnect.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.creds import Creds, format_creds
from authz.keys import UserSeed
from certs.leaves import new_client_key_and_csr
from runtime.client import ClientError
from runtime.client.folder import read_folder
from runtime.client.folderfiles import FolderContents, write_folder
from runtime.control.credentials import PLATFORM
from runtime.control.plane import ControlPlane

log = logging.getLogger(__name__)

LIFETIME_S: Final = 24 * 3600
RENEW_BEFORE_S: Final = LIFETIME_S // 3
CHECK_EVERY_S: Final = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPrincipal:
    """Whom a folder is for."""

    name: str
    role: str
    folder: Path


async def ensure_issued(principal: OwnPrincipal, plane: ControlPlane, *, url: str, control: str) -> None:
    """Write the principal's folder, unless it holds unrevoked credentials for `url` with enough life left.

    Args:
        principal: Whom it is for.
        plane: Who issues.
        url: Where the server listens.
        control: Public key of the control plane, which the folder pins.

    Raises:
        ControlError: The control plane refuses.
        OSError: The folder cannot be written.
    """
    if _serves_on(principal.folder, plane, url=url, control=control):
        return
    seed = UserSeed.generate()
    key, csr = new_client_key_and_csr()
    issued = await plane.issue_platform_credential(
        role=principal.role, name=principal.name, user=seed.public.text, csr=csr, ttl_s=LIFETIME_S
    )
    contents = FolderContents(
        tenant=PLATFORM,
        name=principal.name,
        role=principal.role,
        user=seed.public.text,
        url=url,
        creds=format_creds(Creds(jwt=issued.jwt, seed=seed)),
        certificate=issued.certificate.decode(),
        key=key,
        ca=issued.authority.decode(),
        control=control,
    )
    await asyncio.to_thread(write_folder, principal.folder, contents)


def _serves_on(folder: Path, plane: ControlPlane, *, url: str, control: str) -> bool:
    with contextlib.suppress(ClientError):
        found = read_folder(folder)
        lives = found.expires_at is not None and found.expires_at - time.time() > RENEW_BEFORE_S
        return lives and (found.url, found.control) == (url, control) and plane.honours(found.user)
    return False
