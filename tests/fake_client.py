"""A stand-in for the platform: what a command sends, and what it is answered, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from runtime.client import Answer, ClientError


class FakeClient:
    """Has the client's interface; `answers` maps a command or capability to its result, or to the error it raises."""

    answers: ClassVar[dict[str, Any]] = {}
    sent: ClassVar[list[tuple[str, str, dict[str, Any]]]] = []
    folder: ClassVar[Path | None] = None

    class identity:  # noqa: N801 - stands in for the property of that name
        url = "tls://127.0.0.1:4222"
        control = ""

    @classmethod
    def connect(cls, folder: Path, **_: Any) -> Self:
        cls.folder = folder
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def admin(self, command: str, target: str, data: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        self.sent.append((command, target, dict(data)))
        return dict(self._answer(command))

    async def ask(self, capability: str, data: Mapping[str, Any], **options: Any) -> Answer:
        self.sent.append((capability, str(options), dict(data)))
        return Answer(result=self._answer(capability), agent_id="hello", correlation_id="id-1")

    def _answer(self, name: str) -> Any:
        answer = self.answers[name]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, ClientError | OSError | KeyboardInterrupt):
            raise answer
        return answer
