"""A control plane as a process of its own, to be killed: `python control_process.py FOLDER SERVER_URL`.

Prints one line, the operator's credentials as JSON, when it serves; then serves until it dies.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fixtures_control import LIVE, open_keystore

from authz.creds import format_creds
from authz.keys import UserSeed
from certs.contexts import client_context
from certs.leaves import new_client_key_and_csr
from runtime.bus.connection import Endpoint, connect
from runtime.control.accounts import CONTROL_PAYLOAD
from runtime.control.bootstrap import PlatformCredentials, ensure_platform
from runtime.control.start import start_control_plane


async def main(folder: Path, url: str) -> None:
    keystore = open_keystore(folder)
    platform = ensure_platform(keystore, time.time())
    tls = client_context(ca=folder / "tls/ca.pem", certificate=folder / "tls/c1.pem", key=folder / "tls/c1-key.pem")
    endpoint, own = Endpoint(url=url, tls=tls, max_payload=CONTROL_PAYLOAD), PlatformCredentials(platform, time.time)
    plane = await start_control_plane(
        control=await connect(endpoint, own.control_creds, name="control"),
        system=await connect(endpoint, own.system_creds, name="system"),
        keystore=keystore,
        authority=platform.authority,
        platform=platform,
        clock=time.time,
        limits=LIVE,
    )
    seed = UserSeed.generate()
    _, csr = new_client_key_and_csr()
    issued = await plane.issue_platform_credential(
        role="operator", name="root", user=seed.public.text, csr=csr, ttl_s=3600
    )
    from authz.creds import Creds

    print(json.dumps(format_creds(Creds(jwt=issued.jwt, seed=seed))), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
