"""What users do, as they do it: the `garrison` command as a process against `garrison up`."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform, running_platform

pytestmark = pytest.mark.timeout(180)

POLICY = """\
tenant: {tenant}
roles:
  nurse:
    call: [vitals.*, greeting, odd.*]
    data: [phi]
  billing:
    call: [invoice.*]
  admin:
    admin: [policy.*, credentials.*, agents.list]
agents:
  vitals:
    data: [phi]
"""
OBSERVATIONS = REPOSITORY / "examples" / "healthcare" / "deteriorating.json"

ODD_AGENT = """
import asyncio
from runtime.agent import Agent, RequestRejectedError, capability

class OddAgent(Agent):
    name = "odd"

    @capability("odd.raise")
    async def raises(self, request: dict) -> dict:
        raise ValueError("the patient is called Zoe")

    @capability("odd.hang", timeout=0.2)
    async def hangs(self, request: dict) -> dict:
        await asyncio.sleep(3600)

    @capability("odd.wrong")
    async def wrong(self, request: dict) -> dict:
        return 3

    @capability("odd.large")
    async def large(self, request: dict) -> dict:
        return {"data": "x" * 50_000_000}

    @capability("odd.rejects")
    async def rejects(self, request: dict) -> dict:
        raise RequestRejectedError("no such ward")

    @capability("odd.escape")
    async def escapes(self, request: dict) -> dict:
        return {"text": "\\x1b[2J\\u202egone"}
"""


SLOW_AGENT = """
import asyncio
from pathlib import Path
from runtime.agent import Agent, capability

class SlowAgent(Agent):
    @capability("odd.slow", timeout=30)
    async def slow(self, request: dict) -> dict:
        Path(request["began"]).touch()
        while not Path(request["end"]).exists():
            await asyncio.sleep(0.01)
        return {}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


def prepared(platform: RunningPlatform, tenant: str, *people: tuple[str, str]) -> None:
    """Make a tenant with its policy, and a folder `TENANT-NAME` for each of its people."""
    platform.must("tenant", "create", tenant)
    (platform.folder / f"{tenant}.yaml").write_text(POLICY.format(tenant=tenant))
    platform.must("policy", "apply", f"{tenant}.yaml")
    for name, role in people:
        platform.must("creds", "issue", tenant, name, "--role", role, "--out", f"{tenant}-{name}")


def test_from_nothing_to_a_score_and_back(platform: RunningPlatform) -> None:
    must = platform.must_spawned
    prepared(platform, "st-marys", ("amy", "nurse"), ("colin", "billing"))
    deployed = must("agent", "deploy", "st-marys", str(REPOSITORY / "examples" / "healthcare"))
    assert deployed["hosts"][0]["capabilities"] == ["vitals.assess"]
    call = ("call", "vitals.assess", f"@{OBSERVATIONS}", "--as")

    answer = must(*call, "st-marys-amy")
    assert answer["result"]["total"] >= 7
    assert platform.spawn(*call, "st-marys-amy").out.startswith("{\n")

    refused = platform.spawn(*call, "st-marys-colin", "--json")
    assert (refused.code, refused.json["code"]) == (3, "server_refused")
    assert refused.json["required"] == "call: [vitals.assess]"

    rows = must("creds", "list", "st-marys")["credentials"]
    assert {(row["name"], row["role"], row["status"]) for row in rows if row["kind"] == "issued"} == {
        ("amy", "nurse", "active"),
        ("colin", "billing", "active"),
    }

    must("tenant", "suspend", "st-marys")
    assert platform.spawn(*call, "st-marys-amy", "--json").code == 3
    must("tenant", "resume", "st-marys")
    assert must(*call, "st-marys-amy")["result"] == answer["result"]

    must("creds", "revoke", "st-marys", "amy")
    assert platform.spawn(*call, "st-marys-amy", "--json").code == 3
    must("creds", "issue", "st-marys", "amy", "--role", "nurse", "--out", "st-marys-amy", "--force")
    assert must(*call, "st-marys-amy")["result"] == answer["result"]

    must("agent", "stop", "st-marys", "vitals")
    gone = platform.spawn(*call, "st-marys-amy", "--json")
    assert (gone.code, gone.json["code"]) == (4, "unavailable")

    must("tenant", "delete", "st-marys", "--yes")
    assert platform.spawn("tenant", "show", "st-marys", "--json").json["code"] == "not_found"
    assert platform.spawn(*call, "st-marys-amy").code == 3


def test_a_tenants_administrator_works_on_their_own_tenant_only(platform: RunningPlatform) -> None:
    prepared(platform, "north", ("anna", "admin"), ("amy", "nurse"))
    prepared(platform, "south")
    own, other = platform.folder / "north.yaml", platform.folder / "south.yaml"
    own.write_text(own.read_text().replace("greeting", "greeting, echo"))
    assert platform.must("policy", "apply", "north.yaml", "--as", "north-anna")["epoch"]
    assert "echo" in platform.run("policy", "show", "north", "--as", "north-anna").out
    platform.must("creds", "issue", "north", "ben", "--role", "nurse", "--out", "ben", "--as", "north-anna")
    before = platform.state(["north", "south"])
    other.write_text(other.read_text().replace("greeting", "greeting, echo"))
    for refused in (
        ("policy", "apply", "south.yaml"),
        ("policy", "show", "south"),
        ("creds", "list", "south"),
        ("creds", "issue", "south", "eve", "--role", "nurse", "--out", "eve"),
        ("creds", "issue", "platform", "eve", "--role", "operator", "--out", "eve"),
        ("tenant", "list"),
        ("tenant", "create", "east"),
        ("tenant", "delete", "south", "--yes"),
        ("status",),
    ):
        assert platform.run(*refused, "--as", "north-anna").code == 3, refused
        assert platform.run(*refused, "--as", "north-amy").code == 3, refused
    assert not (platform.folder / "eve").exists()
    assert platform.state(["north", "south"]) == before


def test_an_agent_that_fails_in_any_way_gives_one_clear_error(platform: RunningPlatform) -> None:
    prepared(platform, "odd-clinic", ("amy", "nurse"))
    (platform.folder / "odd.py").write_text(ODD_AGENT)
    platform.must("agent", "deploy", "odd-clinic", "odd.py")
    for capability, code, slug in (
        ("odd.raise", 1, "failed"),
        ("odd.hang", 4, "timeout"),
        ("odd.wrong", 1, "failed"),
        ("odd.large", 1, "failed"),
        ("odd.rejects", 2, "invalid"),
        ("odd.nobody", 4, "unavailable"),
    ):
        finished = platform.run("call", capability, "{}", "--as", "odd-clinic-amy", "--json")
        assert (finished.code, finished.json["code"]) == (code, slug), capability
        assert "Zoe" not in finished.err
    escaped = platform.run("call", "odd.escape", "{}", "--as", "odd-clinic-amy")
    assert all(char.isprintable() or char == "\n" for char in escaped.out)
    assert json.loads(escaped.out) == {"text": "\x1b[2J\u202egone"}


def test_an_agent_that_does_not_start_is_taken_back_and_the_old_one_serves(platform: RunningPlatform) -> None:
    prepared(platform, "retry", ("amy", "nurse"))
    hello = REPOSITORY / "examples" / "hello" / "agent.py"
    platform.must("agent", "deploy", "retry", str(hello), "--name", "hello")
    before = platform.must("agent", "list", "retry")["agents"][0]["digest"]
    (platform.folder / "broken.py").write_text("class Broken(Agent):\n    pass\n")
    finished = platform.run("agent", "deploy", "retry", "broken.py", "--name", "hello", "--json")
    assert (finished.code, finished.json["code"]) == (1, "not_started")
    assert platform.must("agent", "list", "retry")["agents"][0]["digest"] == before
    assert "World" in json.dumps(platform.must("call", "greeting", '{"name": "World"}', "--as", "retry-amy"))


def test_bad_input_is_one_error_and_changes_nothing(platform: RunningPlatform) -> None:
    prepared(platform, "steady", ("amy", "nurse"))
    folder = platform.folder
    (folder / "cycle.yaml").write_text("tenant: steady\nroles:\n  a: {inherits: [b]}\n  b: {inherits: [a]}\n")
    (folder / "unknown.yaml").write_text("tenant: steady\nroles:\n  a: {calls: [x]}\n")
    (folder / "stranger.yaml").write_text(POLICY.format(tenant="stranger"))
    (folder / "listener.yaml").write_text("tenant: steady\nroles:\n  a: {subscribe: ['>']}\n  a: {call: ['*.>.x']}\n")
    (folder / "empty.py").write_text("x = 1\n")
    (folder / "large.json").write_text(json.dumps({"name": "x" * 300_000}))
    before = platform.state(["steady"])
    files = sorted(folder.iterdir())
    for arguments, code in (
        (("tenant", "create", "steady"), 1),
        (("tenant", "create", "platform"), 2),
        (("tenant", "create", "st.marys"), 2),
        (("tenant", "create", "$SYS"), 2),
        (("tenant", "create", "x" * 300), 2),
        (("tenant", "show", "nobody"), 1),
        (("policy", "apply", "cycle.yaml"), 2),
        (("policy", "apply", "unknown.yaml"), 2),
        (("policy", "apply", "stranger.yaml"), 1),
        (("policy", "apply", "listener.yaml"), 2),
        (("creds", "issue", "steady", "eve", "--role", "surgeon", "--out", "eve"), 1),
        (("creds", "issue", "steady", "*", "--role", "nurse", "--out", "eve"), 2),
        (("creds", "issue", "steady", "eve", "--role", "nurse", "--ttl", "300d", "--out", "eve"), 2),
        (("creds", "issue", "nobody", "eve", "--role", "nurse", "--out", "eve"), 1),
        (("creds", "revoke", "steady", "nobody"), 1),
        (("agent", "deploy", "steady", "empty.py"), 2),
        (("agent", "deploy", "nobody", str(REPOSITORY / "examples" / "hello" / "agent.py")), 1),
        (("agent", "stop", "steady", "nobody"), 1),
        (("call", "greeting", "@large.json", "--as", "steady-amy"), 2),
        (("call", "greeting", "[]", "--as", "steady-amy"), 2),
    ):
        finished = platform.run(*arguments)
        assert finished.code == code, (arguments, finished.err)
        assert finished.out == ""
        assert finished.err.startswith("error: "), arguments
    assert sorted(folder.iterdir()) == files
    assert platform.state(["steady"]) == before


def test_damaged_loose_and_foreign_credentials_are_told_apart(platform: RunningPlatform) -> None:
    prepared(platform, "lockers", ("amy", "nurse"), ("ben", "nurse"))
    call = ("call", "greeting", "{}", "--as")
    creds: Path = platform.folder / "lockers-amy" / "user.creds"
    creds.chmod(0o644)
    loose = platform.run(*call, "lockers-amy")
    assert loose.code == 2
    assert "chmod 600" in loose.err
    creds.chmod(0o600)
    whole = creds.read_text()
    start = whole.index("eyJ") + 200
    creds.write_text(whole[:start] + ("A" if whole[start] != "A" else "B") + whole[start + 1 :])
    assert "no usable JWT" in platform.run(*call, "lockers-amy").err
    creds.write_text(whole[: len(whole) // 2])
    assert "not a credentials file" in platform.run(*call, "lockers-amy").err
    creds.write_text((platform.folder / "lockers-ben" / "user.creds").read_text())
    assert platform.run(*call, "lockers-amy").code == 4  # another's credentials work; nobody serves a greeting here


def test_ctrl_c_ends_a_command_with_130(platform: RunningPlatform) -> None:
    prepared(platform, "patience", ("amy", "nurse"))
    (platform.folder / "slow.py").write_text(SLOW_AGENT)
    platform.must("agent", "deploy", "patience", "slow.py")
    began, end = platform.folder / "began", platform.folder / "end"
    data = json.dumps({"began": str(began), "end": str(end)})
    with platform.begin("call", "odd.slow", data, "--as", "patience-amy") as process:
        while not began.exists():
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    end.touch()
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


def test_status_shows_the_host_and_what_it_runs(platform: RunningPlatform) -> None:
    prepared(platform, "shown")
    platform.must("agent", "deploy", "shown", str(REPOSITORY / "examples" / "hello" / "agent.py"))
    printed = platform.run("status").out
    assert "up to date" in printed
    assert "shown/" in printed
    assert platform.must("status")["hosts"][0]["agents"]


def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    with running_platform(tmp_path) as platform:
        prepared(platform, "lasting", ("amy", "nurse"))
        platform.must("agent", "deploy", "lasting", str(REPOSITORY / "examples" / "hello" / "agent.py"))
        before = platform.state(["lasting"])
        assert platform.stop() == 0
        assert platform.run("tenant", "list").code == 4
        platform.start()
        assert platform.state(["lasting"]) == before
        assert platform.must("call", "greeting", '{"name": "World"}', "--as", "lasting-amy")["result"]
