"""A raw nats-py responder without any security: the yardstick's other end. `python responder.py URL`."""

import asyncio
import sys

import nats
import uvloop
from nats.aio.msg import Msg


async def main(url: str) -> None:
    """Answer `bench.echo` with what came, until killed."""
    connection = await nats.connect(url)

    async def answer(message: Msg) -> None:
        await connection.publish(message.reply, message.data)

    await connection.subscribe("bench.echo", cb=answer)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
