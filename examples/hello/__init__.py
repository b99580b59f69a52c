"""The smallest useful agent: a greeting and an echo, and a client that is nothing but a NATS client.

`agent` is how an agent is written; `plain_client` calls it without any code of this project.
"""

from .agent import HelloAgent

__all__ = ["HelloAgent"]
