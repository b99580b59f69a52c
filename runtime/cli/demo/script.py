"""The demo's script: each scene is an attempt, what should come of it, and what did.

Scenes are in the order of the layers that stop them: nats-server, TLS, the dispatcher's identity checks, its policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.bus import subjects
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.errors import RefusedError
from runtime.cli.demo.foreign import foreign_context
from runtime.cli.demo.mistake import widen_role
from runtime.cli.demo.rawclient import RawClient
from runtime.cli.demo.sealed import SealedScenes, outcome
from runtime.cli.demo.stage import ASSESS, Stage, score_line
from runtime.client import (
    DeniedError,
    RejectedCredentialsError,
    ServerRefusedError,
    UnavailableError,
    UnreachableError,
)
from runtime.wiring.examples import find_examples

REFUSED_BY_SERVER = "refused by nats-server"
CUT_WITHIN_S = 1.0

Act = Callable[[], Awaitable[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One attempt and its outcome; `ms` is how long it took."""

    name: str
    expected: str
    got: str
    ms: float

    @property
    def ok(self) -> bool:
        """Whether it went as it should."""
        return self.got == self.expected

    def as_dict(self) -> dict[str, object]:
        """The scene as JSON values."""
        return {"name": self.name, "expected": self.expected, "got": self.got, "ok": self.ok, "ms": round(self.ms, 1)}


async def play(stage: Stage) -> AsyncIterator[Scene]:
    """Play every scene; one that ends in an error shows it, and the others go on."""
    script = Script(stage)
    for name, expected, act in script.scenes():
        started = time.perf_counter()
        try:
            got = await act()
        except Exception as error:  # noqa: BLE001 - whatever happened instead is what was got
            got = f"{type(error).__name__}: {error}"
        yield Scene(name=name, expected=expected, got=got, ms=(time.perf_counter() - started) * 1000)


class Script:
    """The scenes, on a stage that is set."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def scenes(self) -> tuple[tuple[str, str, Act], ...]:
        """Every scene: what is tried, what should come of it, and how it is done."""
        by_policy = "403 by the dispatcher: auditor lacks call:vitals.assess"
        return (
            ("nurse calls vitals.assess", "NEWS2 10, high risk", self._nurse_calls),
            ("greeting from plain nats-py, none of our code", "Hello, AI Network!", self._plain_client_calls),
            ("billing clerk calls vitals.assess", REFUSED_BY_SERVER, self._clerk_calls),
            ("other tenant publishes into this tenant's gate", REFUSED_BY_SERVER, self._neighbour_publishes),
            ("other tenant calls what only this tenant runs", "503 nobody serves it", self._neighbour_calls),
            ("connection without TLS", "nothing but TLS is answered", self._connects_without_tls),
            ("connection with a foreign certificate", "refused in the TLS handshake", self._connects_as_stranger),
            ("role made too wide in the server by mistake", by_policy, self._widened_role_calls),
            ("forged Nats-Request-Info that names the nurse", by_policy, self._forges_identity),
            ("the same in another spelling", "401 by the dispatcher", self._forges_in_other_case),
            ("unterminated header block", "401 by the dispatcher", self._leaves_headers_open),
            ("JetStream made to send its answer to the agent", "nothing reaches the agent", self._forges_reply_subject),
            *SealedScenes(stage=self._stage).scenes(),
            ("credential revoked while connected", f"cut off within {CUT_WITHIN_S:.0f} s", self._is_cut_off),
            ("revoked credential connects again", "refused by nats-server", self._revoked_connects),
        )

    # -- answered ------------------------------------------------------------------------------------------------

    async def _nurse_calls(self) -> str:
        async with self._stage.client("alice") as nurse:
            return score_line(await nurse.call("vitals.assess", self._stage.observation))

    async def _plain_client_calls(self) -> str:
        program = find_examples() / "hello" / "plain_client.py"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(program),
            str(self._stage.folders["alice"].path),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return str(json.loads(output.splitlines()[0])["result"]["message"])

    # -- stopped by nats-server ----------------------------------------------------------------------------------

    async def _clerk_calls(self) -> str:
        async with self._stage.client("colin") as clerk:
            try:
                return score_line(await clerk.call("vitals.assess", self._stage.observation))
            except ServerRefusedError:
                return REFUSED_BY_SERVER

    async def _neighbour_publishes(self) -> str:
        neighbour = await self._connection("lena")
        gate = subjects.gate_capability(self._stage.accounts["st-marys"], "vitals.assess")
        try:
            await neighbour.request(gate, b"{}", timeout=2)
        except RefusedError:
            return REFUSED_BY_SERVER
        finally:
            await neighbour.close()
        return "answered"

    async def _neighbour_calls(self) -> str:
        async with self._stage.client("lena") as neighbour:
            try:
                return str(await neighbour.call("greeting", {"name": "Lakeside"}))
            except UnavailableError:
                return "503 nobody serves it"

    # -- stopped by TLS ------------------------------------------------------------------------------------------

    async def _connects_without_tls(self) -> str:
        address = urlsplit(self._stage.platform.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            async with asyncio.timeout(5):
                answer = await reader.read()
        writer.close()
        # A TLS alert is a record of type 21; anything of the NATS protocol would be text.
        return "nothing but TLS is answered" if answer[:1] in (b"", b"\x15") else repr(answer)

    async def _connects_as_stranger(self) -> str:
        tls = foreign_context(self._stage.root / "stranger", ca=self._stage.folders["alice"].ca)
        address = urlsplit(self._stage.platform.url)
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=tls)
            async with asyncio.timeout(5):
                greeting = await reader.read(1024)
        except (ssl.SSLError, ConnectionError):
            return "refused in the TLS handshake"
        writer.close()
        return f"the server said {greeting[:40]!r}" if greeting else "refused in the TLS handshake"

    # -- stopped by the dispatcher -------------------------------------------------------------------------------

    async def _widened_role_calls(self) -> str:
        await self._widen("auditor", ASSESS)
        async with self._stage.client("audrey") as auditor:
            try:
                return score_line(await auditor.call("vitals.assess", self._stage.observation))
            except DeniedError as error:
                return f"403 by the dispatcher: {error.role} lacks {error.required}"

    async def _forges_identity(self) -> str:
        block = f"NATS/1.0\r\nNats-Request-Info: {self._nurses_info()}\r\n\r\n"
        return await self._attack(block.encode())

    async def _forges_in_other_case(self) -> str:
        block = f"NATS/1.0\r\nnats-request-info: {self._nurses_info()}\r\n\r\n"
        return await self._attack(block.encode())

    async def _leaves_headers_open(self) -> str:
        # The doubled name keeps nats-server from taking the forged line out; the missing end hides its own line from
        # a lenient parser, which then reads the nurse.
        doubled = "X: Nats-Request-InfoNats-Request-Info: a"
        block = f"NATS/1.0\r\n{doubled}\r\nNats-Request-Info: {self._nurses_info()}\r\nY: zz"
        return await self._attack(block.encode())

    async def _forges_reply_subject(self) -> str:
        """nats-server does not check reply subjects, so any service of its own delivers for whoever asks it to."""
        await self._widen("auditor", "$JS.API.INFO")
        before = await self._answered()
        attacker = await self._raw("audrey")
        try:
            if b"account_info_response" not in await attacker.request("$JS.API.INFO", b"", b""):
                return "JetStream did not answer the attacker at all"
            await attacker.publish("$JS.API.INFO", ASSESS, b"", b"")
            await attacker.publish(ASSESS, "", b"", json.dumps(self._stage.observation).encode())
            await attacker.flush()
        finally:
            attacker.close()
        answered = await self._answered() - before
        return "nothing reaches the agent" if answered == 0 else f"the agent answered {answered} times"

    # -- revoked -------------------------------------------------------------------------------------------------

    async def _is_cut_off(self) -> str:
        lost = asyncio.Event()
        nurse = await self._connection("alice", on_closed=lost.set)
        revoking = asyncio.create_task(self._stage.operator.admin("credentials.revoke", "st-marys", {"name": "alice"}))
        started = time.perf_counter()
        async with asyncio.timeout(10):
            await lost.wait()
        seconds = time.perf_counter() - started
        await revoking
        await nurse.close()
        return f"cut off within {CUT_WITHIN_S:.0f} s" if seconds <= CUT_WITHIN_S else f"cut off after {seconds:.1f} s"

    async def _revoked_connects(self) -> str:
        try:
            async with self._stage.client("alice"):
                return "connected"
        except (RejectedCredentialsError, UnreachableError) as error:
            return "refused by nats-server" if isinstance(error, RejectedCredentialsError) else str(error)

    # -- tools ---------------------------------------------------------------------------------------------------

    async def _attack(self, header_block: bytes) -> str:
        """Call vitals.assess as the auditor with these header bytes, and read who the dispatcher took it for."""
        attacker = await self._raw("audrey")
        try:
            answer = await attacker.request(ASSESS, header_block, json.dumps(self._stage.observation).encode())
        finally:
            attacker.close()
        return outcome(answer)

    def _nurses_info(self) -> str:
        """What nats-server would say of the nurse: an attacker who has seen the nurse's JWT can write it too."""
        nurse = self._stage.creds("alice")
        account = self._stage.accounts["st-marys"]
        return json.dumps({"acc": account, "user": nurse.seed.public.text, "kind": "Client", "jwt": nurse.jwt})

    async def _widen(self, role: str, subject: str) -> None:
        account = self._stage.accounts["st-marys"]
        await widen_role(self._stage.platform, self._stage.folder, account=account, role=role, publish=subject)

    async def _answered(self) -> int:
        status = await self._stage.operator.admin("status.show", "all")
        return sum(int(host["counters"].get("answered", 0)) for host in status["hosts"])

    async def _raw(self, person: str) -> RawClient:
        folder = self._stage.folders[person]
        return await RawClient.connect(self._stage.platform.url, folder.tls_context(), folder.load_creds())

    async def _connection(self, person: str, *, on_closed: Callable[[], None] | None = None) -> Connection:
        folder = self._stage.folders[person]
        endpoint = Endpoint(url=folder.url, tls=folder.tls_context())
        return await connect(endpoint, folder.load_creds, name=person, on_closed=on_closed)
