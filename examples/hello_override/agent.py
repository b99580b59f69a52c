"""A greeting and an echo, answered by overriding `process_capability`.

    garrison agent deploy TENANT examples/hello_override

Works like the typed form in `examples/hello`, except that requests and results are plain dicts: what a handler doesn't
check itself, nobody checks.
"""

from typing import Any

from runtime.agent import Agent, RequestRejectedError


class HelloWorldAgent(Agent):
    """Answers both capabilities from `process_capability`."""

    version = "1.0.0"
    capabilities = ("greeting", "echo")

    async def process_capability(self, capability: str, request: dict[str, Any]) -> dict[str, Any]:
        """Greet `name`, or give `message` back."""
        if capability == "greeting":
            name = request.get("name", "World")
            if not isinstance(name, str):
                raise RequestRejectedError("must be a string", path="name")
            return {"message": f"Hello, {name}!"}
        return {"echo": request.get("message", "")}
