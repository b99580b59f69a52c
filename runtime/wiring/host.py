"""Joins a host to the bus: its own connection as a principal of PLATFORM, and one connection a tenant."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.creds import Creds
from authz.keys import UserSeed
from authz.tokens import decode_user
from runtime.agent import CallRefusedError, DeadlinePassedError, NotGrantedError
from runtime.bus import subjects
from runtime.bus.connection import Endpoint, connect
from runtime.client import CallFailedError, Client, ClientError, DeadlineError, DeniedError, ServerRefusedError
from runtime.client.folder import CredentialsFolder, read_folder
from runtime.client.identity import Identity
from runtime.host.control_link import AdminControlLink
from runtime.host.errors import CommandRefusedError
from runtime.host.host import Host
from runtime.host.ports import OpenGate
from runtime.wiring.folderlock import locked
from runtime.wiring.hostkeys import HostKeys

log = logging.getLogger(__name__)

_FINAL = frozenset({400, 404, 409, 413, 422})


async def run_host(
    folder: Path, *, workdir: Path, stop: asyncio.Event, connected: Callable[[Identity], None] = lambda _: None
) -> None:
    """Serve deployments as the host that `folder` holds the credentials of, until `stop` is set.

    Args:
        folder: Credentials of role `host`.
        workdir: Where agents' code is unpacked.
        stop: Ends it, once the accepted calls have ended.
        connected: Called when the platform has let the host in.

    Raises:
        ClientError: The platform cannot be reached, or refuses these credentials.
        FolderInUseError: Another host uses `workdir`.
    """
    with locked(workdir):
        async with Client.connect(folder) as client:
            connected(client.identity)
            link = AdminControlLink(ControlCaller(client), host=client.identity.name, instance=uuid.uuid4().hex)
            host = Host(
                link=link,
                connector=BusConnector(folder, link),
                subject_of=subjects.gate_capability,
                parse_subject=subjects.parse_gate_capability,
                published_as=subjects.capability,
                open_keys=HostKeys(client).open,
                workdir=workdir,
            )
            await host.run(stop)


class ControlCaller:
    """Implements `AdminCaller`: tells what is refused for good from what may work another time."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def admin(
        self,
        command: str,
        target: str,
        data: Mapping[str, object],
        *,
        timeout: float,  # noqa: ASYNC109 - the wire carries it
    ) -> dict[str, object]:
        """Run `command` on `target`.

        Raises:
            CommandRefusedError: Sending it again would change nothing.
            ClientError: It was not done now.
        """
        try:
            return await self._client.admin(command, target, data, timeout=timeout)
        except CallFailedError as error:
            if error.code in _FINAL:
                raise CommandRefusedError(command, error.message) from error
            raise


class BusConnector:
    """Implements `Connector`: keys are made here, in memory, and only their public half is sent to be signed."""

    def __init__(self, folder: Path, link: AdminControlLink) -> None:
        self._folder = folder
        self._link = link

    async def open_gate(self, tenant: str, *, on_closed: Callable[[], None]) -> OpenGate:
        """Open a GATE connection of `tenant`."""
        seed = UserSeed.generate()
        creds = Creds(jwt=await self._link.gate_token(tenant, seed.public.text), seed=seed)
        claims = decode_user(creds.jwt, now=None)
        endpoint = await asyncio.to_thread(self._endpoint)
        # SEC-2: in GATE nobody may ask, so there is no inbox to listen on.
        name = f"host gate {tenant}"
        connection = await connect(endpoint, lambda: creds, name=name, on_closed=on_closed, hears_answers=False)
        lifetime = claims.expires_at - claims.issued_at if claims.expires_at is not None else math.inf
        return OpenGate(connection=connection, lifetime_s=lifetime)

    async def open_caller(self, tenant: str, agent: str) -> AgentCaller:
        """A client in the tenant's account under the role `agent:<agent>`; it connects at its first call."""

        async def identify() -> Identity:
            seed = UserSeed.generate()
            creds = Creds(jwt=await self._link.agent_token(tenant, agent, seed.public.text), seed=seed)
            own = await asyncio.to_thread(read_folder, self._folder)
            return AgentIdentity(own=own, creds=creds, name=agent, tenant=tenant)

        return AgentCaller(Client.identified_by(identify))

    def _endpoint(self) -> Endpoint:
        folder = read_folder(self._folder)
        return Endpoint(url=folder.url, tls=folder.tls_context())


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentIdentity:
    """An agent's own credentials, over the host's certificate: TLS admits the host, the JWT names the agent."""

    own: CredentialsFolder
    creds: Creds
    name: str
    tenant: str

    @property
    def url(self) -> str:
        """Where the host connects."""
        return self.own.url

    @property
    def user(self) -> str:
        """The public key made for the agent."""
        return self.creds.seed.public.text

    @property
    def role(self) -> str:
        """The agent's own role."""
        return f"agent:{self.name}"

    @property
    def control(self) -> str:
        """The control plane's key, as the host's folder pins it."""
        return self.own.control

    @property
    def expires_at(self) -> int | None:
        """When the agent's JWT expires."""
        return decode_user(self.creds.jwt, now=None).expires_at

    def load_creds(self) -> Creds:
        """The agent's JWT and seed, from memory."""
        return self.creds

    def tls_context(self) -> ssl.SSLContext:
        """The host's TLS context."""
        return self.own.tls_context()


class AgentCaller:
    """A client in the shape that handlers use: `runtime.agent.Caller`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_open = False

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline to pass on
        correlation_id: str,
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call under the agent's own role.

        The call gets a correlation id of its own, since a host takes each only once; the log joins the two.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._open()
            answer = await self._client.ask(capability, data, timeout=timeout, seal=seal, subject=subject)
        except TimeoutError as error:
            raise DeadlinePassedError(capability) from error
        except (DeniedError, ServerRefusedError, CommandRefusedError) as error:
            raise NotGrantedError(capability) from error
        except DeadlineError as error:
            raise DeadlinePassedError(capability) from error
        except CallFailedError as error:
            raise CallRefusedError(capability, error.code, error.message) from error
        except ClientError as error:
            raise CallRefusedError(capability, 503, "not reachable") from error
        log.info("[%s] called `%s` under [%s]", correlation_id, capability, answer.correlation_id)
        return answer.result

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _open(self) -> None:
        if not self._is_open:
            await self._client.__aenter__()  # closed by `close`
            self._is_open = True
