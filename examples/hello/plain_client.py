"""Calls an agent with nats-py alone. Any NATS client in any language can do the same.

    python examples/hello/plain_client.py DIR [CAPABILITY DATA]

DIR is what `garrison creds issue … --out DIR` wrote, DATA one JSON object; by default it asks the hello agent for a
greeting and an echo. Prints each answer as JSON, one a line.
"""

import asyncio
import json
import logging
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

HELLO: list[tuple[str, dict[str, object]]] = [
    ("greeting", {"name": "AI Network"}),
    ("echo", {"message": "Hello NATS!"}),
]


async def connect(folder: Path) -> Client:
    """Connect with the credentials in `folder`: mutual TLS 1.3 first, replies to the user's own inbox."""
    context = json.loads((folder / "context.json").read_text())
    tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    return await nats.connect(
        context["url"],
        tls=tls,
        tls_handshake_first=True,
        user_credentials=str(folder / "user.creds"),
        inbox_prefix=context["inbox_prefix"],
        allow_reconnect=False,
    )


async def call(connection: Client, capability: str, data: dict[str, object]) -> dict[str, object]:
    """Send `data` to `capability`; give back the whole answer, a failure's too."""
    answer = await connection.request(f"ai.capabilities.{capability}", json.dumps(data).encode(), timeout=5)
    parsed: dict[str, object] = json.loads(answer.data)
    return parsed


async def main(folder: Path, calls: Sequence[tuple[str, dict[str, object]]]) -> int:
    """Call each capability with its data; 0 if all were answered with a result."""
    connection = await connect(folder)
    try:
        answers = [await call(connection, capability, data) for capability, data in calls]
    except (NoRespondersError, NatsTimeoutError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        await connection.close()
    sys.stdout.writelines(json.dumps(answer) + "\n" for answer in answers)
    return 0 if all("result" in answer for answer in answers) else 1


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of how nats-py takes the end of a TLS connection
    try:
        match sys.argv[1:]:
            case [directory]:
                sys.exit(asyncio.run(main(Path(directory), HELLO)))
            case [directory, capability, data]:
                sys.exit(asyncio.run(main(Path(directory), [(capability, json.loads(data))])))
            case _:
                sys.exit("usage: plain_client.py DIR [CAPABILITY DATA]")
    except (OSError, ValueError, NatsError) as error:
        sys.exit(f"error: {error}")
