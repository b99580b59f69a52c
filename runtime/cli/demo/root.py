"""What whoever owns the platform's folder can do: everything. The demo uses it to play what no role could."""

import os
import time

from authz.claims import UserClaims
from authz.creds import Creds
from authz.keys import UserSeed
from authz.permissions import SubjectPermissions
from authz.tokens import encode_user
from certs.keystore import KeyStore
from certs.masterkey import MasterKey
from runtime.control.bootstrap import PlatformKeys, ensure_platform
from runtime.wiring.platform_folder import PlatformFolder


def platform_keys(folder: PlatformFolder) -> PlatformKeys:
    """The platform's own keys, from its key store."""
    keystore = KeyStore(folder.keys, MasterKey.load(directory=folder.root, environ=os.environ))
    return ensure_platform(keystore, time.time())


def gate_user_with_every_right(keys: PlatformKeys) -> Creds:
    """Credentials in GATE that may listen to and publish anything: what no host is ever given."""
    seed = UserSeed.generate()
    claims = UserClaims(
        name="eavesdropper",
        subject=seed.public,
        issuer=keys.gate.signing.public,
        issuer_account=keys.gate.public,
        issued_at=int(time.time()),
        expires_at=int(time.time()) + 600,
        permissions=SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",)),
    )
    return Creds(jwt=encode_user(claims, keys.gate.signing), seed=seed)
