"""An operator's mistake, made on purpose: a role's template in the server becomes wider than the tenant's policy.

It is what the dispatcher's own decision is for. Made with the platform's own keys, past the control plane; the next
change of the tenant's policy mends it.
"""

import time
from dataclasses import replace

from authz.claims import ScopedSigningKey
from authz.keys import AccountPublicKey
from authz.tokens import decode_account, encode_account
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.connection import connect
from runtime.cli.demo.root import platform_keys
from runtime.control.bootstrap import PlatformCredentials
from runtime.wiring.platform import Platform
from runtime.wiring.platform_folder import PlatformFolder


async def widen_role(platform: Platform, folder: PlatformFolder, *, account: str, role: str, publish: str) -> None:
    """Let `role` of the tenant's account publish to `publish` as well, whatever its policy says."""
    keys = platform_keys(folder)
    credentials = PlatformCredentials(keys, time.time)
    system = await connect(platform.own_endpoint(), credentials.system_creds, name="an operator's mistake")
    try:
        pusher = ClaimsPusher(system)
        claims = decode_account(await pusher.lookup(account) or "")
        wider = replace(
            claims,
            signing_keys=tuple(_widened(key, role, publish) for key in claims.signing_keys),
            issued_at=claims.issued_at + 1,
        )
        await pusher.push(encode_account(wider, keys.operator))
    finally:
        await system.close()


def _widened(key: AccountPublicKey | ScopedSigningKey, role: str, publish: str) -> AccountPublicKey | ScopedSigningKey:
    if not isinstance(key, ScopedSigningKey) or key.role != role:
        return key
    template = replace(key.template, publish_allow=(*key.template.publish_allow, publish))
    return replace(key, template=template)
