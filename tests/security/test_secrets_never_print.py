"""P8 over a whole run: after a platform was made, used, misused, killed and restarted, its secrets are looked for.

In every log at the finest level, every answer, every file, the server's arguments and environment, and the reprs of
what was alive. They may be where they belong: the master key in its own file, TLS keys in theirs, all else sealed.
"""

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from control_harness import RefusedError, policy
from fixtures_control import LiveCaller, LivePlatform
from secret_search import contents, holds, others_can_read, places_of, secrets_in, secrets_stored

from authz.creds import format_creds
from authz.keys import UserSeed
from certs.leaves import new_client_key_and_csr
from runtime.bus.errors import BusError

POLICY = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["policy.*", "credentials.*"]')


async def test_p8_no_secret_of_a_run_is_found_outside_its_place(
    live: LivePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seed = UserSeed.generate()
    said = await use_and_misuse(live, seed)
    process = await crash_and_come_back(live)
    alive = [live.platform, live.keystore, live.plane, vars(live.keystore.__class__), seed, live.platform.authority]
    shown = "\n".join([caplog.text, *said, *(f"{thing!r} {thing}" for thing in alive)]).encode() + process
    secrets = secrets_of(live) | {seed.reveal().encode()}

    assert len(secrets) > 12
    assert places_of(secrets, {"what was said": shown}) == set()
    assert places_of(secrets, contents(live.folder)) == places_of(secrets, own_places(live.folder))
    assert {path.name for path in live.folder.rglob("*") if others_can_read(path) and holds(path, secrets)} == set()


async def use_and_misuse(live: LivePlatform, seed: UserSeed) -> list[str]:
    """Everything that a caller was answered."""
    operator = await live.operator()
    said = [await answer(operator, "tenants.create", "st-marys", {"policy": POLICY})]
    creds = await operator.issue("st-marys", "ann", "nurse", seed=seed)
    admin = await live.connect(await operator.issue("st-marys", "bea", "admin"))
    key, csr = new_client_key_and_csr()
    order = {"name": "cy", "role": "nurse", "ttl_s": 60, "user": seed.public.text, "csr": csr.decode()}
    mistakes = ({"user": seed.reveal()}, {"csr": key.decode()}, {"note": format_creds(creds)}, {"ttl_s": seed.reveal()})
    said += [await answer(admin, "credentials.issue", "st-marys", order | mistake) for mistake in mistakes]
    said.append(await answer(admin, "policy.apply", "st-marys", {"policy": format_creds(creds)}))
    said.append(await answer(operator, "status.show", "all", {}))
    said.append(await answer(operator, "credentials.list", "st-marys", {}))
    said.append(await answer(operator, "credentials.revoke", "st-marys", {"name": "ann"}))
    return said


async def answer(caller: LiveCaller, command: str, target: str, data: dict[str, Any]) -> str:
    try:
        return json.dumps(await caller.ask(command, target, data))
    except (RefusedError, BusError) as error:
        return f"{error!r} {error} {vars(error)}"


async def crash_and_come_back(live: LivePlatform) -> bytes:
    """The server's arguments and environment, before it is killed."""
    files = [Path(f"/proc/{live.server.pid}") / name for name in ("cmdline", "environ")]
    process = b"\n".join(file.read_bytes() for file in files)
    await live.server.kill()
    await live.stop_plane()
    await live.start_server()
    await live.start_plane()
    return process


def secrets_of(live: LivePlatform) -> set[bytes]:
    """Every seed and private key in the key store, the TLS keys in files, and the master key."""
    in_files = secrets_in(b"\n".join(path.read_bytes() for path in (live.folder / "tls").glob("*-key.pem")))
    return secrets_stored(live.keystore) | in_files | {(live.folder / "master.key").read_bytes().strip()}


def own_places(folder: Path) -> dict[str, bytes]:
    return {name: text for name, text in contents(folder).items() if name == "master.key" or name.endswith("-key.pem")}


def test_p8_the_search_finds_what_is_there() -> None:
    secret = UserSeed.generate().reveal().encode()
    for form in (secret, base64.b64encode(b"ab" + secret), base64.b64encode(b'{"seed":"%b"}' % secret)):
        assert places_of({secret}, {"here": b"..." + form + b"...", "elsewhere": b"..."}) == {"here"}
