"""P6: the plaintext of a sealed call is nowhere but in the memory of caller, host and agent.

A marked patient is sent through the real platform, at debug level, while listeners with every right stand in every
account that the call crosses; then the mark is looked for in all that was delivered, stored and logged.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform

from authz.claims import UserClaims
from authz.creds import Creds
from authz.keys import AccountPublicKey, AccountSeed, UserSeed
from authz.permissions import SubjectPermissions
from authz.tokens import encode_user
from certs.keystore import KeyStore
from certs.masterkey import MasterKey
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.message import Message
from runtime.client import Client, InvalidRequestError
from runtime.client.folder import read_folder
from runtime.control.bootstrap import PlatformKeys, ensure_platform

MARK = b"zq7-marked-patient-9x"
EVERYTHING = SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",))


def listener(account: AccountPublicKey, signer: AccountSeed) -> Creds:
    seed = UserSeed.generate()
    claims = UserClaims(
        name="listener",
        subject=seed.public,
        issuer=signer.public,
        issuer_account=account,
        issued_at=int(time.time()),
        expires_at=int(time.time()) + 600,
        permissions=EVERYTHING,
    )
    return Creds(jwt=encode_user(claims, signer), seed=seed)


def keys_of(platform: RunningPlatform) -> PlatformKeys:
    keystore = KeyStore(platform.data / "keys", MasterKey.load(directory=platform.data, environ={}))
    return ensure_platform(keystore, time.time())


@asynccontextmanager
async def listening(platform: RunningPlatform, endpoint: Endpoint, heard: list[Message]) -> AsyncIterator[None]:
    """Hear everything in GATE, CONTROL and SYS: what an operator of the server could do."""
    keys = keys_of(platform)
    async with AsyncExitStack() as stack:
        for account in (keys.gate, keys.control, keys.sys):
            creds = listener(account.public, account.signing)
            connection: Connection = await connect(endpoint, lambda creds=creds: creds, name="listener")  # type: ignore[misc]
            stack.push_async_callback(connection.close)
            await connection.subscribe(">", heard.append)
        yield


@pytest.mark.timeout(120)
async def test_marked_patient_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GARRISON_LOG_LEVEL", "DEBUG")
    platform = RunningPlatform(tmp_path)
    platform.start()
    try:
        platform.must_spawned("tenant", "create", "st-marys")
        platform.must_spawned("policy", "apply", str(REPOSITORY / "examples/healthcare/policy.yaml"))
        platform.must_spawned("agent", "deploy", "st-marys", str(REPOSITORY / "examples/healthcare"))
        platform.must_spawned("creds", "issue", "st-marys", "amy", "--role", "nurse", "--out", str(tmp_path / "amy"))
        observation = json.loads((REPOSITORY / "examples/healthcare/deteriorating.json").read_text())
        observation["subject"] = {"reference": f"Patient/{MARK.decode()}"}
        heard: list[Message] = []
        folder = read_folder(tmp_path / "amy")
        endpoint = Endpoint(url=folder.url, tls=folder.tls_context(), max_payload=1 << 20)
        async with listening(platform, endpoint, heard), Client.connect(tmp_path / "amy") as nurse:
            assert (await nurse.call("vitals.assess", observation))["total"] == 10
            broken = {**observation, "component": observation["component"][1:]}
            with pytest.raises(InvalidRequestError):  # a refusal must not quote the input either
                await nurse.call("vitals.assess", broken)
    finally:
        platform.stop()
    carried = [m for m in heard if m.subject.endswith("vitals.assess")]
    assert len(carried) >= 2, "the listeners heard the sealed calls"
    assert not [m.subject for m in heard if MARK in m.data or MARK in m.header_block]
    assert files_with_the_mark(tmp_path) == []


def files_with_the_mark(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and MARK in path.read_bytes()]
