"""What an agent class offers, and which classes are refused with what advice."""

# ruff: noqa: ARG001, ARG002, ARG004, PLW0211 - handlers are tested by their form

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from runtime.agent import (
    Agent,
    AgentDefinitionError,
    CallerInfo,
    HandlerExitError,
    Invocation,
    capability,
    capability_table,
)


class Question(BaseModel):
    text: str
    weight: float = 1.0


class Answer(BaseModel):
    text: str


class Typed(Agent):
    @capability("ask", timeout=3, concurrency=2, idempotent=True)
    async def ask(self, request: Question) -> Answer:
        """Answer a question."""
        return Answer(text=request.text.upper())

    @capability("ask.who")
    async def who(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
        return {"asked": request, "by": invocation.principal.name}

    @capability("ask.slowly")
    def slowly(self, request: Question) -> Answer:
        return Answer(text=threading.current_thread().name + request.text)


class Listing(Agent):
    capabilities = ("greeting", "echo")

    async def process_capability(self, capability: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"capability": capability, "request": request}


def invocation(capability_name: str = "ask") -> Invocation:
    caller = CallerInfo(tenant="st-marys", user="U", name="ann", role="nurse")
    return Invocation(capability=capability_name, principal=caller, correlation_id="c-1", deadline=1e12)


async def run(agent: Agent, name: str, raw: bytes) -> bytes:
    spec = capability_table(agent)[name]
    return spec.encode_output(await spec.invoke(spec.validate_input(raw), invocation(name)))


def test_limits_and_documentation_come_from_the_declaration() -> None:
    spec = capability_table(Typed())["ask"]
    assert (spec.name, spec.timeout, spec.concurrency, spec.idempotent) == ("ask", 3.0, 2, True)
    assert spec.doc == "Answer a question."
    assert spec.input_schema["required"] == ["text"]
    assert spec.output_schema["properties"]["text"] == {"title": "Text", "type": "string"}


def test_undeclared_limits_have_defaults() -> None:
    spec = capability_table(Typed())["ask.who"]
    assert (spec.timeout, spec.concurrency, spec.idempotent, spec.doc) == (10.0, 64, False, "")


async def test_typed_handler_gets_its_model_and_answers_with_one() -> None:
    assert await run(Typed(), "ask", b'{"text": "why"}') == b'{"text":"WHY"}'


async def test_handler_that_asks_for_it_gets_the_invocation() -> None:
    assert await run(Typed(), "ask.who", b'{"a":1}') == b'{"asked":{"a":1},"by":"ann"}'


async def test_plain_function_runs_outside_the_event_loop_thread() -> None:
    assert await run(Typed(), "ask.slowly", b'{"text": "!"}') == b'{"text":"capability ask.slowly!"}'


async def test_listed_capabilities_are_answered_by_process_capability() -> None:
    assert set(capability_table(Listing())) == {"greeting", "echo"}
    assert await run(Listing(), "echo", b'{"m":1}') == b'{"capability":"echo","request":{"m":1}}'


async def test_blocking_process_capability_runs_in_a_thread() -> None:
    class Blocking(Agent):
        capabilities = ("where",)

        def process_capability(self, capability: str, request: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
            return {"thread": threading.current_thread().name}

    assert await run(Blocking(), "where", b"{}") == b'{"thread":"capability where"}'


async def test_decorated_and_listed_capabilities_live_in_one_agent() -> None:
    class Both(Listing):
        @capability("ask")
        async def ask(self, request: Question) -> Answer:
            return Answer(text=request.text)

    assert set(capability_table(Both())) == {"ask", "greeting", "echo"}


def test_inherited_capabilities_are_offered_and_none_takes_one_back() -> None:
    class Less(Typed):
        slowly = None  # type: ignore[assignment]

    assert set(capability_table(Less())) == {"ask", "ask.who"}


async def test_handler_wrapped_by_another_decorator_still_answers() -> None:
    import functools

    def logged(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(*args: Any) -> Any:
            return handler(*args)

        return wrapper

    class Wrapped(Agent):
        @logged
        @capability("ask")
        async def ask(self, request: Question) -> Answer:
            return Answer(text=request.text)

    assert await run(Wrapped(), "ask", b'{"text":"x"}') == b'{"text":"x"}'


def test_name_defaults_to_the_class_name_in_kebab_case() -> None:
    class HTTPProxyAgent2(Agent):
        pass

    class Named(Agent):
        name = "own_name"

    assert (HTTPProxyAgent2.name, Typed.name, Named.name) == ("http-proxy-agent2", "typed", "own_name")


# --- handlers that misbehave


@pytest.mark.parametrize("how", ["async", "thread"])
async def test_handler_that_exits_ends_only_its_own_call(how: str) -> None:
    class Exiting(Agent):
        @capability("async")
        async def leave(self, request: dict[str, Any]) -> dict[str, Any]:
            raise SystemExit(3)

        @capability("thread")
        def leave_thread(self, request: dict[str, Any]) -> dict[str, Any]:
            raise KeyboardInterrupt

    with pytest.raises(HandlerExitError, match=f"`{how}`"):
        await run(Exiting(), how, b"{}")


async def test_errors_of_a_thread_handler_arrive_as_themselves() -> None:
    class Failing(Agent):
        @capability("key")
        def key(self, request: dict[str, Any]) -> dict[str, Any]:
            raise KeyError("k")

        @capability("stop")
        def stop(self, request: dict[str, Any]) -> dict[str, Any]:
            raise StopIteration

    with pytest.raises(KeyError):
        await run(Failing(), "key", b"{}")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run(Failing(), "stop", b"{}")


class Hanging(Agent):
    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    @capability("hang")
    def hang(self, request: dict[str, Any]) -> dict[str, Any]:
        self.entered.set()
        self.release.wait(30)
        return {}


async def start_hanging(agent: Hanging) -> asyncio.Task[Any]:
    async def call() -> Any:
        return await capability_table(agent)["hang"].invoke({}, invocation("hang"))

    task = asyncio.ensure_future(call())
    assert await asyncio.to_thread(agent.entered.wait, 30)
    return task


async def test_cancelled_thread_handler_has_ended_only_when_its_thread_has() -> None:
    agent = Hanging()
    task = await start_hanging(agent)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    agent.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_second_cancellation_leaves_a_hanging_thread_behind() -> None:
    agent = Hanging()
    task = await start_hanging(agent)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    agent.release.set()


def test_thread_that_outlives_the_event_loop_ends_quietly() -> None:
    agent = Hanging()

    async def abandon() -> threading.Thread:
        task = await start_hanging(agent)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "capability hang"]
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        return thread

    # filterwarnings=error: an exception in the thread would fail this test
    thread = asyncio.run(abandon())
    agent.release.set()
    thread.join(30)
    assert not thread.is_alive()


# --- classes that are refused


def refusal(agent: Agent) -> AgentDefinitionError:
    with pytest.raises(AgentDefinitionError) as caught:
        capability_table(agent)
    return caught.value


def test_agent_without_capabilities_is_refused() -> None:
    class Idle(Agent):
        pass

    assert str(refusal(Idle())) == (
        "`Idle`: it offers no capability; decorate a method with @capability, or list `capabilities`"
    )


def test_capability_offered_twice_is_refused() -> None:
    class Twice(Listing):
        @capability("echo")
        async def echo(self, request: dict[str, Any]) -> dict[str, Any]:
            return request

    assert "`echo` is offered twice" in str(refusal(Twice()))


def test_listing_without_process_capability_is_refused_and_the_reverse() -> None:
    class OnlyList(Agent):
        capabilities = ("echo",)

    class OnlyMethod(Agent):
        async def process_capability(self, capability: str, request: dict[str, Any]) -> dict[str, Any]:
            return {}

    assert "go together" in str(refusal(OnlyList()))
    assert "go together" in str(refusal(OnlyMethod()))


async def test_base_process_capability_answers_nothing() -> None:
    with pytest.raises(AgentDefinitionError, match="nothing answers `echo`"):
        await Agent().process_capability("echo", {})


def test_capabilities_given_as_one_string_are_refused() -> None:
    class OneString(Listing):
        capabilities = "greeting"

    assert refusal(OneString()).fix == 'write ["greeting"]'


@pytest.mark.parametrize(
    "name", ["Greeting", "a..b", "a.b.c.d.e", "*", "a.>", "ä", "a b", "", "a\n", "x" * 129, 7, None]
)
def test_bad_capability_name_is_refused_listed_or_decorated(name: Any) -> None:
    class Bad(Listing):
        capabilities = (name,)

    assert "not a capability name" in str(refusal(Bad()))
    with pytest.raises(AgentDefinitionError, match="not a capability name"):
        capability(name)


def test_decorator_without_parentheses_is_refused_with_the_form_to_write() -> None:
    with pytest.raises(AgentDefinitionError, match=r'write @capability\("name"\)'):

        class Bare(Agent):
            @capability  # type: ignore[arg-type]
            async def echo(self, request: dict[str, Any]) -> dict[str, Any]:
                return request


@pytest.mark.parametrize(
    "limits",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 30.1},
        {"timeout": float("nan")},
        {"timeout": "3"},
        {"timeout": True},
        {"concurrency": 0},
        {"concurrency": 10_001},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"idempotent": 1},
    ],
)
def test_limit_out_of_range_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(AgentDefinitionError, match=f"`{next(iter(limits))}`"):
        capability("echo", **limits)


def test_two_capabilities_on_one_method_are_refused() -> None:
    async def handler(self: object, request: dict[str, Any]) -> dict[str, Any]:
        return request

    with pytest.raises(AgentDefinitionError, match="already"):
        capability("a")(capability("b")(handler))


def test_decorating_something_else_than_a_method_is_refused() -> None:
    with pytest.raises(AgentDefinitionError, match="decorates a staticmethod"):
        capability("a")(staticmethod(lambda request: request))  # type: ignore[type-var]


def test_static_and_class_methods_are_refused() -> None:
    class Static(Agent):
        @staticmethod
        @capability("a")
        async def a(self: Any, request: dict[str, Any]) -> dict[str, Any]:
            return request

    assert "is a staticmethod" in str(refusal(Static()))


def test_overriding_a_capability_without_decorating_is_refused() -> None:
    class Silent(Typed):
        async def ask(self, request: Question) -> Answer:
            return Answer(text="")

    assert "overrides a capability" in str(refusal(Silent()))


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a.b", "x" * 64, "ä", 3])
def test_agent_name_out_of_grammar_is_refused(name: Any) -> None:
    class Misnamed(Typed):
        pass

    Misnamed.name = name
    assert "can't name an agent" in str(refusal(Misnamed()))


def handler_class(handler: Any) -> Agent:
    class Odd(Agent):
        odd = capability("odd")(handler)

    return Odd()


async def no_request(self: object) -> dict[str, Any]:
    return {}


async def three(self: object, request: dict[str, Any], invocation: Invocation, more: int) -> dict[str, Any]:
    return request


async def keyword_only(self: object, *, request: dict[str, Any]) -> dict[str, Any]:
    return request


async def variadic(self: object, *requests: dict[str, Any]) -> dict[str, Any]:
    return requests[0]


async def untyped_request(self: object, request) -> dict[str, Any]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return request


async def untyped_result(self: object, request: dict[str, Any]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return request


async def second_is_no_invocation(self: object, request: dict[str, Any], invocation: int) -> dict[str, Any]:
    return request


async def unresolvable(self: object, request: "Nowhere") -> dict[str, Any]:  # type: ignore[name-defined]  # noqa: F821
    return {}


async def takes_a_list(self: object, request: list[int]) -> dict[str, Any]:
    return {}


async def takes_anything(self: object, request: Any) -> dict[str, Any]:
    return {}


async def gives_text(self: object, request: dict[str, Any]) -> str:
    return ""


async def gives_nothing(self: object, request: dict[str, Any]) -> None:
    return None


async def gives_maybe(self: object, request: dict[str, Any]) -> Answer | None:
    return None


async def takes_an_object(self: object, request: threading.Thread) -> dict[str, Any]:
    return {}


class Opaque(BaseModel):
    call_back: Callable[[], None]


async def takes_a_callable(self: object, request: Opaque) -> dict[str, Any]:
    return {}


async def yields(self: object, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request


@pytest.mark.parametrize(
    ("handler", "part"),
    [
        (no_request, "parameters"),
        (three, "parameters"),
        (keyword_only, "parameters"),
        (variadic, "parameters"),
        (untyped_request, "type of its request is not given"),
        (untyped_result, "type of its result is not given"),
        (second_is_no_invocation, "not an Invocation"),
        (unresolvable, "can't be resolved"),
        (takes_a_list, "request is not a JSON object"),
        (takes_anything, "request is not a JSON object"),
        (gives_text, "result is not a JSON object"),
        (gives_nothing, "result is not a JSON object"),
        (gives_maybe, "result is not a JSON object"),
        (takes_an_object, "can't be checked"),
        (takes_a_callable, "has no JSON form"),
        (yields, "it yields"),
    ],
)
def test_handler_of_the_wrong_form_is_refused_naming_it(handler: Any, part: str) -> None:
    error = refusal(handler_class(handler))
    assert error.where == "Odd.odd"
    assert part in error.problem
    assert "\n" not in str(error)


async def union_of_models(self: object, request: Question | Answer) -> Answer:
    return Answer(text=type(request).__name__)


async def test_union_of_models_is_a_valid_request() -> None:
    assert await run(handler_class(union_of_models), "odd", b'{"text":"x","weight":2}') == b'{"text":"Question"}'
