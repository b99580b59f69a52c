"""Has credentials issued: keys are made here and stay here.

The platform is sent a public key and a certificate request, and sends back the JWT and the certificate.
"""

from dataclasses import dataclass

from authz.creds import Creds, format_creds
from authz.errors import KeyFormatError
from authz.keys import AccountPublicKey, UserSeed
from certs.leaves import new_client_key_and_csr
from runtime.client.client import Client
from runtime.client.errors import BadAnswerError
from runtime.client.folderfiles import FolderContents


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedFolder:
    """A credentials folder, not yet written; `expires_at` in Unix seconds."""

    contents: FolderContents
    expires_at: int


async def issue_folder(client: Client, *, tenant: str, name: str, role: str, ttl_s: int) -> IssuedFolder:
    """Make keys for `name` and have them certified under `role`, for `ttl_s` seconds.

    Raises:
        ClientError: The platform refuses, or cannot be reached.
    """
    seed = UserSeed.generate()
    key, request = new_client_key_and_csr()
    data = {"name": name, "role": role, "ttl_s": ttl_s, "user": seed.public.text, "csr": request.decode()}
    result = await client.admin("credentials.issue", tenant, data)
    jwt, certificate, ca = (result.get(part) for part in ("jwt", "certificate", "ca"))
    expires_at = result.get("expires_at")
    if not (isinstance(jwt, str) and isinstance(certificate, str) and isinstance(ca, str)):
        raise BadAnswerError(code=500, message="the control plane's answer holds no credentials", correlation_id="")
    if not isinstance(expires_at, int):
        raise BadAnswerError(code=500, message="the control plane's answer holds no expiry", correlation_id="")
    contents = FolderContents(
        tenant=tenant,
        name=name,
        role=role,
        user=seed.public.text,
        url=client.identity.url,
        creds=format_creds(Creds(jwt=jwt, seed=seed)),
        certificate=certificate,
        key=key,
        ca=ca,
        control=_pinned(client, result.get("control")),
    )
    return IssuedFolder(contents=contents, expires_at=expires_at)


def _pinned(client: Client, control: object) -> str:
    """The control plane's key for the new folder: the issuer's own pin goes before what an answer says."""
    own = client.identity.control
    if control is None:
        return own
    try:
        told = AccountPublicKey.parse(str(control)).text
    except KeyFormatError as error:
        raise BadAnswerError(code=500, message="the control plane's answer names no key", correlation_id="") from error
    if own and told != own:
        raise BadAnswerError(code=500, message="the answer names another control plane", correlation_id="")
    return told
