"""A greeting and an echo, as typed handlers.

garrison agent deploy TENANT examples/hello
garrison call greeting '{"name": "World"}' --as DIR
"""

from pydantic import BaseModel, ConfigDict, Field

from runtime.agent import Agent, capability

_STRICT = ConfigDict(extra="forbid", frozen=True)


class GreetingRequest(BaseModel):
    """Whom to greet."""

    model_config = _STRICT
    name: str = Field(default="World", min_length=1, max_length=200)


class Greeting(BaseModel):
    """A greeting."""

    message: str


class EchoRequest(BaseModel):
    """What to give back."""

    model_config = _STRICT
    message: str = ""


class Echo(BaseModel):
    """What was given."""

    echo: str


class HelloAgent(Agent):
    """Greets, and gives back what it is given."""

    name = "hello"
    version = "1.0.0"

    @capability("greeting", timeout=2, idempotent=True)
    async def greeting(self, request: GreetingRequest) -> Greeting:
        """Greet `name`, or the world."""
        return Greeting(message=f"Hello, {request.name}!")

    @capability("echo", timeout=2, idempotent=True)
    async def echo(self, request: EchoRequest) -> Echo:
        """Give `message` back unchanged."""
        return Echo(echo=request.message)
