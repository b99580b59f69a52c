"""Administrative requests as a client sends them: an envelope, and the sender's own signature over it."""

import json
import time
import uuid

from authz.keys import UserSeed
from runtime.bus import subjects
from runtime.envelope.messages import build_request
from runtime.envelope.sender import HEADER, sign_sender


def signed_request(
    seed: UserSeed,
    account: str,
    command: str,
    target: str,
    data: object = None,
    *,
    at: float | None = None,
    correlation_id: str | None = None,
) -> tuple[bytes, dict[str, str]]:
    """The payload and the headers of one command; `at` is Unix seconds, now by default."""
    now = time.time() if at is None else at
    call_id = correlation_id or str(uuid.uuid4())
    body = build_request(agent_id="tests", correlation_id=call_id, timestamp=now, data=json.dumps(data or {}).encode())
    value = sign_sender(
        account=account,
        user=seed.public.text,
        name="tests",
        subject=subjects.admin(command, target),
        ts=int(now),
        nonce=call_id,
        payload=body,
        sign=seed.sign,
    )
    return body, {HEADER: value}
