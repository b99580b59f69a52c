"""The numbers that bound the control plane, in one place, so that tests can shorten them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlLimits:
    """Times in seconds, sizes in bytes."""

    # A host not heard of for so long is taken for dead. INVARIANT: longer than a host's own lease (10 s), after which
    # it serves nobody: so when we stop waiting for it, it has stopped serving by what it knew.
    host_lease_s: float = 12.0
    poll_hold_s: float = 3.0  # how long a poll waits for news
    narrow_first_s: float = 0.5  # how long a change waits for the dispatchers before it goes to the server
    acknowledge_s: float = 15.0  # how long a command waits for hosts that live but don't acknowledge
    deploy_s: float = 20.0  # how long a deployment may take to start; with the waits around it, below 30 s
    take_back_s: float = 3.0  # how long a failed deployment waits for what ran before to be back
    first_host_s: float = 3.0  # how long a deployment waits for a host to appear
    maintenance_s: float = 1.0
    issued_ttl_min_s: int = 2  # of whole seconds, the first has begun: with one there is no time for a certificate
    issued_ttl_max_s: int = 30 * 24 * 3600
    derived_ttl_s: int = 3600  # credentials that hosts ask for
    # INVARIANT: so few that all of a tenant's credentials can be revoked, whatever its policy.
    credentials_max: int = 2000  # of a tenant, not expired
    credentials_kept_max: int = 3000  # of a tenant on record, expired ones included
    keep_expired_s: int = 7 * 24 * 3600  # how long expired credentials are listed
    record_bytes_max: int = 768 * 1024  # of a tenant's record, its account claims included
    policy_record_bytes_max: int = 384 * 1024  # the same, but without room for revocations: a policy may need no more
    revocation_bytes: int = 180  # what one revocation takes up in a record
    policy_bytes_max: int = 128 * 1024
    snapshot_bytes_max: int = 8 * 1024 * 1024
    piece_bytes: int = 128 * 1024
    uploads_max: int = 8  # at the same time
    upload_idle_s: float = 60.0
    sync_bytes_max: int = 512 * 1024
    in_flight_max: int = 512
    in_flight_tenant_max: int = 64
    audit_record_bytes_max: int = 8 * 1024


DEFAULT_LIMITS = ControlLimits()
