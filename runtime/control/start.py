"""The control plane on real connections: the one entry for whoever composes a platform.

Rules it keeps: names of buckets and streams are here and nowhere else; the policy of the tenant `platform` is the
release's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certs.authority import Authority
from runtime.bus.blobs import BlobStore
from runtime.bus.buckets import Bucket
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.connection import Connection
from runtime.bus.journal import AppendStream
from runtime.bus.serverconfig import find_nats_config
from runtime.control.bootstrap import Keys, PlatformKeys
from runtime.control.limits import DEFAULT_LIMITS, ControlLimits
from runtime.control.plane import ControlPlane, Ports
from runtime.control.ports import Clock

AUDIT_SUBJECT: Final = "audit.records"


@dataclass(frozen=True, kw_only=True, slots=True)
class JetStreamStorage:
    """`ports.Storage` in the account CONTROL."""

    tenants: Bucket
    credentials: Bucket
    accounts: Bucket
    hosts: Bucket
    datakeys: Bucket
    snapshots: BlobStore
    audit: AppendStream


async def start_control_plane(
    *,
    control: Connection,
    system: Connection,
    keystore: Keys,
    authority: Authority,
    platform: PlatformKeys,
    clock: Clock,
    limits: ControlLimits = DEFAULT_LIMITS,
    platform_policy: str | None = None,
) -> ControlPlane:
    """Start it; when this returns it answers requests. Stop it with `.stop()`, or kill the process.

    Args:
        control: In CONTROL, with `PlatformKeys.control_creds`; its endpoint must allow payloads of `CONTROL_PAYLOAD`.
        system: In SYS, with `PlatformKeys.system_creds`; likewise. When it has been restored, call
            `ControlPlane.server_returned`. When either ends for good, stop, connect anew and start another.
        keystore: Where the keys are.
        authority: Signs client certificates.
        platform: From `bootstrap.ensure_platform`.
        clock: Unix seconds.
        limits: For tests.
        platform_policy: The policy of the tenant `platform`; None for the release's own.

    Raises:
        StateVersionError, StateDamagedError: the stored state can't be read; nothing was changed.
        BusError: the server or its storage does not answer.
    """
    ports = Ports(
        storage=await open_storage(control),
        pusher=ClaimsPusher(system),
        subscribe=control.subscribe,
        respond=control.respond,
        keys=keystore,
        clock=clock,
    )
    plane = ControlPlane(
        ports,
        platform=platform,
        authority=authority,
        platform_policy=release_policy() if platform_policy is None else platform_policy,
        limits=limits,
    )
    await plane.start()
    return plane


async def open_storage(control: Connection) -> JetStreamStorage:
    """Open the buckets, making those that are not there."""
    return JetStreamStorage(
        tenants=await Bucket.open(control, "tenants"),
        credentials=await Bucket.open(control, "credentials"),
        accounts=await Bucket.open(control, "accounts"),
        hosts=await Bucket.open(control, "hosts"),
        datakeys=await Bucket.open(control, "datakeys"),
        snapshots=await BlobStore.open(control, "snapshots"),
        audit=await AppendStream.open(control, "audit", AUDIT_SUBJECT),
    )


def release_policy() -> str:
    """The policy of the tenant `platform` that this release comes with."""
    return (Path(find_nats_config()) / "platform-policy.yaml").read_text(encoding="utf-8")
