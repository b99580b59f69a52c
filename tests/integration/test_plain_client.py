"""The hello example's client, which is nats-py and nothing of ours, against a real server over mutual TLS."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from client_folders import write_client_folder
from fixtures_server import MakeRealm, Realm

from authz.permissions import SubjectPermissions
from examples.hello.agent import HelloAgent
from runtime.agent import CallerInfo, Invocation, capability_table
from runtime.bus.message import Message
from runtime.envelope.messages import build_response

SCRIPT = Path(__file__).parents[2] / "examples/hello/plain_client.py"
USER = SubjectPermissions(
    publish_allow=("ai.capabilities.greeting", "ai.capabilities.echo"), subscribe_allow=("_INBOX.{{subject()}}.>",)
)
CALLER = CallerInfo(tenant="alpha", user="U", name="amy", role="user")


@pytest.fixture
async def folder(make_realm: MakeRealm, tmp_path: Path) -> Path:
    """A realm with the hello agent answering, and the folder of a user who may reach it and own one inbox."""

    def prepare(realm: Realm) -> None:
        realm.add_role(realm.add_account("ALPHA"), "user", USER)

    realm = await make_realm(prepare=prepare)
    creds = realm.user(realm.accounts["ALPHA"], role="user", name="amy")
    folder = write_client_folder(realm, tmp_path / "amy", creds)
    context = json.loads((folder / "context.json").read_text())
    context["inbox_prefix"] = f"_INBOX.{creds.seed.public}"
    (folder / "context.json").write_text(json.dumps(context))
    await serve_hello(realm)
    return folder


async def serve_hello(realm: Realm) -> None:
    connection = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    tasks: set[asyncio.Task[None]] = set()

    async def answer(message: Message) -> None:
        spec = capability_table(HelloAgent())[message.subject.removeprefix("ai.capabilities.")]
        invocation = Invocation(capability=spec.name, principal=CALLER, correlation_id="c", deadline=float("inf"))
        result = spec.encode_output(await spec.invoke(spec.validate_input(message.data), invocation))
        body = build_response(agent_id="hello", capability=spec.name, correlation_id="c", timestamp=1.0, result=result)
        connection.respond(message.reply, body)

    def handle(message: Message) -> None:
        task = asyncio.ensure_future(answer(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await connection.subscribe("ai.capabilities.*", handle)


async def run(*arguments: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_plain_nats_client_is_greeted_and_echoed(folder: Path) -> None:
    code, out, err = await run(folder)
    assert (code, err) == (0, "")
    assert [json.loads(line)["result"] for line in out.splitlines()] == [
        {"message": "Hello, AI Network!"},
        {"echo": "Hello NATS!"},
    ]


async def test_plain_nats_client_calls_the_capability_it_is_given(folder: Path) -> None:
    code, out, err = await run(folder, "greeting", '{"name": "Amy"}')
    assert (code, err) == (0, "")
    assert json.loads(out)["result"] == {"message": "Hello, Amy!"}


async def test_plain_nats_client_without_a_folder_says_how_it_is_used() -> None:
    code, _, err = await run()
    assert (code, err) == (1, "usage: plain_client.py DIR [CAPABILITY DATA]\n")


@pytest.mark.parametrize("arguments", [("no-such-folder",), ("no-such-folder", "greeting", "{")])
async def test_plain_nats_client_says_in_one_line_what_is_wrong(arguments: tuple[str, ...]) -> None:
    code, _, err = await run(*arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
