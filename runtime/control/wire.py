"""The bodies of commands, as models: strict, nothing unknown, everything bounded.

Rules it keeps: pydantic only here, at the trust boundary; a failure names the field. Not here: names, keys and
policies, which their own parsers in `authz` judge; polls of hosts, which are in `runtime.envelope.hostsync`.
"""

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, field_validator

from runtime.control.errors import InvalidInputError
from runtime.envelope.messages import FieldFault

Name = Annotated[str, StringConstraints(min_length=1, max_length=400)]
PolicyText = Annotated[str, StringConstraints(max_length=256 * 1024)]
UserKeyText = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Digest = Annotated[str, StringConstraints(pattern=r"\A(sha256:)?[0-9a-f]{64}\z")]
Entry = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,100}\z")]
Size = Annotated[int, Field(ge=0, le=1 << 40)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Empty(Body):
    """A command without input."""


class CreateTenant(Body):
    """`policy`: its first one; without it only an administrator's role exists."""

    policy: PolicyText | None = None


class ApplyPolicy(Body):
    """A policy file's text."""

    policy: PolicyText


class IssueCredential(Body):
    """Public parts only: the seed and the certificate's key never leave their owner."""

    name: Name
    role: Name
    ttl_s: Annotated[int, Field(ge=1)]
    user: UserKeyText
    csr: Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024)]


class RevokeCredential(Body):
    """By name (all of that name), or one by its user key."""

    name: Name | None = None
    user: UserKeyText | None = None


class NameScope(Body):
    """A data key: its label, and its data subject if it is about one."""

    label: Name
    subject: Name | None = None


class UploadPiece(Body):
    """A piece of a snapshot: base64 of the bytes from `offset` on; `size` is that of the whole."""

    digest: Digest
    offset: Size
    size: Size
    data: Annotated[str, StringConstraints(max_length=256 * 1024)]

    @field_validator("data")
    @classmethod
    def _base64(cls, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("not base64") from error
        return value


class DeployAgent(Body):
    """Run `entry` (`module:Class`) of an uploaded snapshot as `agent`."""

    digest: Digest
    entry: Entry
    agent: Name


class NameAgent(Body):
    """An agent of the tenant."""

    agent: Name


class GateCredential(Body):
    """A host's own new user key."""

    user: UserKeyText


class AgentCredential(Body):
    """A host's own new user key, for an agent that it runs."""

    agent: Name
    user: UserKeyText


class SnapshotPiece(Body):
    """Where the piece begins."""

    offset: Size = 0


class AuditBatch(Body):
    """What a host recorded; each is one JSON object."""

    records: Annotated[list[dict[str, JsonValue]], Field(max_length=500)]


def read_body(model: type[Any], data: bytes) -> Any:
    """Read a command's body.

    Raises:
        InvalidInputError: with the path of each field that is wrong.
    """
    try:
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise InvalidInputError("the command's input is not valid", fields=_faults(error)) from error


def _faults(error: ValidationError) -> tuple[FieldFault, ...]:
    return tuple(
        FieldFault(path=".".join(map(str, fault["loc"]))[:100], message=fault["msg"][:200])
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:20]
    )
