"""The hello agent, in both its forms."""

from typing import Any

import pytest

from examples.hello.agent import HelloAgent
from examples.hello_override.agent import HelloWorldAgent
from runtime.agent import (
    Agent,
    CallerInfo,
    InputInvalidError,
    Invocation,
    RequestRejectedError,
    capability_table,
)

CALLER = CallerInfo(tenant="acme", user="U", name="ann", role="user")


async def call(agent: Agent, name: str, raw: bytes) -> bytes:
    spec = capability_table(agent)[name]
    invocation = Invocation(capability=name, principal=CALLER, correlation_id="c", deadline=1e12)
    return spec.encode_output(await spec.invoke(spec.validate_input(raw), invocation))


@pytest.mark.parametrize("agent", [HelloAgent(), HelloWorldAgent()])
@pytest.mark.parametrize(
    ("name", "request_body", "result"),
    [
        ("greeting", b'{"name":"AI Network"}', b'{"message":"Hello, AI Network!"}'),
        ("greeting", b"{}", b'{"message":"Hello, World!"}'),
        ("echo", b'{"message":"Hello NATS!"}', b'{"echo":"Hello NATS!"}'),
        ("echo", b"{}", b'{"echo":""}'),
    ],
)
async def test_both_forms_answer_alike(agent: Agent, name: str, request_body: bytes, result: bytes) -> None:
    assert await call(agent, name, request_body) == result


def test_names_are_those_of_the_classes_unless_given() -> None:
    assert (HelloAgent.name, HelloWorldAgent.name) == ("hello", "hello-world-agent")


@pytest.mark.parametrize("raw", [b'{"name":7}', b'{"name":""}', b'{"nam":"x"}'])
async def test_typed_form_refuses_what_does_not_fit(raw: bytes) -> None:
    with pytest.raises(InputInvalidError) as caught:
        await call(HelloAgent(), "greeting", raw)
    fault: Any = caught.value.fields[0]
    assert fault["path"] in {"name", "nam"}


async def test_override_form_checks_for_itself() -> None:
    with pytest.raises(RequestRejectedError) as caught:
        await call(HelloWorldAgent(), "greeting", b'{"name":7}')
    assert caught.value.path == "name"
