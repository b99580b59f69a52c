"""Every command's conversation with the platform, and what it prints; the platform is a stand-in here."""

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_client import FakeClient

import runtime.client
from runtime.cli import session
from runtime.cli.main import run
from runtime.client import (
    DeniedError,
    ExpiredCredentialsError,
    HandlerFailedError,
    InvalidRequestError,
    OverLimitError,
    RejectedCredentialsError,
    ServerRefusedError,
    UnavailableError,
    UnreachableError,
)
from runtime.host.snapshot import read_snapshot

ID = "3f0c5a52-7d0e-4a56-9d3e-0d2b1f6c9a11"
POLICY = "tenant: st-marys\nroles:\n  nurse:\n    call: [vitals.*]\n"


class Platform:
    """What the test knows of the stand-in."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        printed = self._capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    def answers(self, **answers: Any) -> None:
        FakeClient.answers = {name.replace("__", "."): answer for name, answer in answers.items()}

    @property
    def sent(self) -> list[tuple[str, str, dict[str, Any]]]:
        return FakeClient.sent


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Platform]:
    monkeypatch.setattr(runtime.client, "Client", FakeClient)
    monkeypatch.setenv("GARRISON_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "operator").mkdir(parents=True)
    FakeClient.sent = []
    yield Platform(tmp_path, capsys)
    FakeClient.answers, FakeClient.sent, FakeClient.folder = {}, [], None


def test_tenant_create_sends_the_name_as_the_operator(platform: Platform) -> None:
    platform.answers(tenants__create={"tenant": "st-marys"})
    code, out, err = platform.run("tenant", "create", "st-marys")
    assert (code, err) == (0, "")
    assert "`st-marys` created" in out
    assert platform.sent == [("tenants.create", "st-marys", {})]
    assert FakeClient.folder == platform.folder / "data" / "operator"


@pytest.mark.parametrize("command", ["suspend", "resume", "show"])
def test_tenant_commands_name_their_tenant(platform: Platform, command: str) -> None:
    platform.answers(**{f"tenants__{command}": {"tenant": "st-marys", "status": "active", "created_at": 0}})
    code, out, _ = platform.run("tenant", command, "st-marys")
    assert code == 0
    assert "st-marys" in out
    assert platform.sent == [(f"tenants.{command}", "st-marys", {})]


def test_tenant_list_is_a_table_or_json(platform: Platform) -> None:
    listed = {"tenants": [{"tenant": "st-marys", "status": "active", "roles": ["admin", "nurse"], "agents": []}]}
    platform.answers(tenants__list=listed)
    code, out, _ = platform.run("tenant", "list")
    assert code == 0
    assert out.splitlines()[0].split() == ["TENANT", "STATUS", "ROLES", "AGENTS", "CREDENTIALS"]
    assert "admin, nurse" in out
    code, out, _ = platform.run("tenant", "list", "--json")
    assert json.loads(out) == listed


def test_an_empty_list_says_so(platform: Platform) -> None:
    platform.answers(tenants__list={"tenants": []})
    assert platform.run("tenant", "list")[1] == "no tenants\n"


def test_deleting_without_a_terminal_needs_yes(platform: Platform) -> None:
    platform.answers(tenants__delete={})
    code, _, err = platform.run("tenant", "delete", "st-marys")
    assert code == 2
    assert "--yes" in err
    assert platform.sent == []
    assert platform.run("tenant", "delete", "st-marys", "--yes")[0] == 0
    assert platform.sent == [("tenants.delete", "st-marys", {})]


def test_another_folder_to_act_with_goes_before_the_operators(platform: Platform) -> None:
    platform.answers(policy__show={"policy": POLICY})
    code, out, _ = platform.run("policy", "show", "st-marys", "--as", "carol")
    assert (code, out) == (0, POLICY)
    assert FakeClient.folder == Path("carol")


def test_policy_apply_sends_the_text_to_the_tenant_that_it_names(platform: Platform) -> None:
    (platform.folder / "policy.yaml").write_text(POLICY)
    platform.answers(policy__apply={"epoch": 4, "changes": [{}]})
    code, out, _ = platform.run("policy", "apply", "policy.yaml")
    assert code == 0
    assert "epoch 4" in out
    assert platform.sent == [("policy.apply", "st-marys", {"policy": POLICY})]


def test_a_faulty_policy_is_not_sent_and_each_fault_has_its_line(platform: Platform) -> None:
    (platform.folder / "policy.yaml").write_text("tenant: st-marys\nrolls: {}\nroles:\n  nurse:\n    call: [a..b]\n")
    code, _, err = platform.run("policy", "apply", "policy.yaml")
    assert code == 2
    assert "line 2:" in err
    assert "line 5:" in err
    assert platform.sent == []
    code, _, err = platform.run("policy", "apply", "policy.yaml", "--json")
    faults = json.loads(err)
    assert (code, faults["code"], {fault["line"] for fault in faults["faults"]}) == (2, "bad_policy", {2, 5})


def test_creds_issue_sends_public_parts_only_and_writes_a_private_folder(platform: Platform) -> None:
    issued = {"jwt": "x.y.z", "certificate": "CERT", "ca": "CA", "expires_at": 1_900_000_000}
    platform.answers(credentials__issue=issued)
    code, out, err = platform.run(
        "creds", "issue", "st-marys", "amy", "--role", "nurse", "--ttl", "30m", "--out", "people/amy"
    )
    assert (code, err) == (0, "")
    assert "2030-03-17" in out
    command, tenant, data = platform.sent[0]
    assert (command, tenant, data["name"], data["role"], data["ttl_s"]) == (
        "credentials.issue", "st-marys", "amy", "nurse", 1800,
    )  # fmt: skip
    folder = platform.folder / "people" / "amy"
    assert {path.name for path in folder.iterdir()} == {
        "user.creds", "client.pem", "client-key.pem", "ca.pem", "context.json",
    }  # fmt: skip
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    seed = next(line for line in (folder / "user.creds").read_text().splitlines() if line.startswith("SU"))
    private = (folder / "client-key.pem").read_text()
    assert seed not in json.dumps(data) + out
    assert private.splitlines()[1] not in json.dumps(data) + out
    context = json.loads((folder / "context.json").read_text())
    assert context["tls_first"] is True
    assert context["inbox_prefix"] == f"_INBOX.{data['user']}"
    assert [path.name for path in (platform.folder / "people").iterdir()] == ["amy"]


def test_creds_issue_never_overwrites_a_folder_unless_forced(platform: Platform) -> None:
    (platform.folder / "amy").mkdir()
    arguments = ("creds", "issue", "st-marys", "amy", "--role", "nurse", "--out", "amy")
    code, _, err = platform.run(*arguments)
    assert code == 1
    assert "--force" in err
    (platform.folder / "amy" / "thesis.txt").write_text("x")
    code, _, err = platform.run(*arguments, "--force")
    assert code == 1
    assert "thesis.txt" in err
    assert platform.sent == []


def test_a_refused_issue_leaves_nothing_behind(platform: Platform) -> None:
    refused = InvalidRequestError(code=422, message="tenant `st-marys` has no role `nurse`", correlation_id=ID)
    platform.answers(credentials__issue=refused)
    code, _, err = platform.run("creds", "issue", "st-marys", "amy", "--role", "nurse", "--out", "amy")
    assert code == 2
    assert "no role `nurse`" in err
    assert not (platform.folder / "amy").exists()


def test_creds_revoke_is_by_name_or_by_key_and_not_both(platform: Platform) -> None:
    platform.answers(credentials__revoke={"revoked": ["U1", "U2"]})
    assert "2 keys" in platform.run("creds", "revoke", "st-marys", "amy")[1]
    assert platform.run("creds", "revoke", "st-marys")[0] == 2
    assert platform.run("creds", "revoke", "st-marys", "amy", "--user", "U1")[0] == 2
    assert platform.run("creds", "revoke", "st-marys", "--user", "not-a-key")[0] == 2
    assert [sent[2] for sent in platform.sent] == [{"name": "amy"}]


def test_creds_list_shows_state_and_times(platform: Platform) -> None:
    row = {"name": "amy", "role": "nurse", "status": "revoked", "expires_at": 0, "last_seen": None, "user": "U1"}
    platform.answers(credentials__list={"credentials": [row]})
    out = platform.run("creds", "list", "st-marys")[1]
    assert "1970-01-01 00:00:00Z" in out
    assert "revoked" in out


@pytest.fixture
def package(platform: Platform) -> Path:
    folder = platform.folder / "greeter"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "agent.py").write_text("class GreeterAgent(Agent):\n    name = 'greeter'\n")
    (folder / "model.bin").write_bytes(bytes(300_000))
    return folder


def test_agent_deploy_uploads_the_snapshot_in_pieces_and_deploys_it(platform: Platform, package: Path) -> None:
    hosts = [{"host": "host-1", "state": "running", "capabilities": ["greeting", "echo"]}]
    platform.answers(agents__upload={"complete": False}, agents__deploy={"agent": "greeter", "hosts": hosts})
    code, out, _ = platform.run("agent", "deploy", "st-marys", str(package))
    assert code == 0
    assert "serves echo, greeting on host-1" in out
    pieces = [data for command, _, data in platform.sent if command == "agents.upload"]
    whole = b"".join(base64.b64decode(piece["data"]) for piece in pieces)
    assert len(pieces) == 3
    assert {len(whole)} == {piece["size"] for piece in pieces}
    assert "agent.py" in read_snapshot(whole, digest=pieces[0]["digest"])
    assert platform.sent[-1][2] == {"digest": pieces[0]["digest"], "entry": "agent:GreeterAgent", "agent": "greeter"}


def test_a_snapshot_that_is_stored_already_is_not_uploaded_again(platform: Platform, package: Path) -> None:
    platform.answers(agents__upload={"complete": True}, agents__deploy={"hosts": []})
    assert platform.run("agent", "deploy", "st-marys", str(package))[0] == 0
    assert [sent[0] for sent in platform.sent] == ["agents.upload", "agents.deploy"]


def test_an_agent_that_does_not_start_is_a_failure_and_not_wrong_usage(platform: Platform, package: Path) -> None:
    failure = InvalidRequestError(code=422, message="agent `greeter` did not start: boom", correlation_id=ID)
    platform.answers(agents__upload={"complete": True}, agents__deploy=failure)
    code, _, err = platform.run("agent", "deploy", "st-marys", str(package))
    assert code == 1
    assert "boom" in err


def test_agent_list_has_a_row_for_each_host_and_one_for_none(platform: Platform) -> None:
    agents = [
        {"agent": "vitals", "digest": "ab" * 32, "hosts": [{"host": "h1", "state": "failed", "error": "no\x1b[31m"}]},
        {"agent": "hello", "digest": "cd" * 32, "hosts": []},
    ]
    platform.answers(agents__list={"agents": agents})
    code, out, _ = platform.run("agent", "list", "st-marys")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "\x1b" not in out


def test_agent_stop_names_the_agent(platform: Platform) -> None:
    platform.answers(agents__stop={})
    assert platform.run("agent", "stop", "st-marys", "vitals")[0] == 0
    assert platform.sent == [("agents.stop", "st-marys", {"agent": "vitals"})]


def test_call_prints_the_result(platform: Platform) -> None:
    platform.answers(greeting={"text": "hello Zoë"})
    code, out, err = platform.run("call", "greeting", '{"name": "Zoë"}', "--as", "amy")
    assert (code, json.loads(out), err) == (0, {"text": "hello Zoë"}, "")
    assert platform.sent[0][2] == {"name": "Zoë"}
    out = platform.run("call", "greeting", "{}", "--as", "amy", "--json")[1]
    assert {"result", "agent_id", "correlation_id", "ms"} == set(json.loads(out))


def test_call_reads_its_input_from_a_file(platform: Platform) -> None:
    (platform.folder / "in.json").write_text('{"a": 1}')
    platform.answers(greeting={})
    assert platform.run("call", "greeting", "@in.json", "--as", "amy")[0] == 0
    assert platform.sent[0][2] == {"a": 1}


def test_status_shows_hosts_and_what_failed(platform: Platform) -> None:
    agent = {"tenant": "st-marys", "agent": "vitals", "state": "failed", "error": "no chart"}
    host = {"host": "host-1", "up_to_date": True, "seen_at": 1, "agents": [agent]}
    shown = {"started_at": 0, "revision": 7, "tenants": {"active": 2}, "agents": 1, "hosts": [host]}
    platform.answers(status__show=shown)
    code, out, _ = platform.run("status")
    assert code == 0
    for part in ("2 active", "host-1", "up to date", "no chart"):
        assert part in out
    assert json.loads(platform.run("status", "--json")[1]) == shown


FAILURES = [
    (DeniedError(code=403, message="denied", correlation_id=ID, required="call:greeting", role="clerk"), 3, "denied"),
    (ServerRefusedError(subject="ai.capabilities.greeting", missing="call: [greeting]"), 3, "server_refused"),
    (
        InvalidRequestError(code=422, message="no", correlation_id=ID, fields=[{"path": "a", "message": "b"}]),
        2,
        "invalid",
    ),
    (OverLimitError(code=429, message="busy", correlation_id=ID, retry_after=2.0), 1, "over_limit"),
    (HandlerFailedError(code=500, message="failed", correlation_id=ID), 1, "failed"),
    (UnavailableError(code=503, message="nobody", correlation_id=ID), 4, "unavailable"),
    (ExpiredCredentialsError("expired", name="amy", expired_at=1), 3, "expired"),
    (RejectedCredentialsError("no", url="tls://h:1"), 3, "rejected"),
    (UnreachableError("no", url="tls://h:1", reason="tls"), 4, "tls"),
]


@pytest.mark.parametrize(("error", "code", "slug"), FAILURES, ids=[slug for _, _, slug in FAILURES])
def test_each_failure_has_its_exit_code_and_its_slug(
    platform: Platform, error: Exception, code: int, slug: str
) -> None:
    platform.answers(greeting=error)
    found, out, err = platform.run("call", "greeting", "{}", "--as", "amy", "--json")
    document = json.loads(err)
    assert (found, out, document["code"], set(document) >= {"error", "code", "hint"}) == (code, "", slug, True)
    found, out, err = platform.run("call", "greeting", "{}", "--as", "amy")
    assert (found, out) == (code, "")
    assert err.startswith("error: ")


REFUSALS = [
    ("policy.show", "lakeside", "admin: [policy.show]` on `lakeside`", "administer that tenant alone"),
    ("tenants.list", "all", "admin: [tenants.list]`", "it is for the platform's operators"),
]


@pytest.mark.parametrize(("command", "target", "message", "hint"), REFUSALS)
def test_a_refused_command_says_of_which_tenant_and_whose_it_is(
    platform: Platform, command: str, target: str, message: str, hint: str
) -> None:
    error = ServerRefusedError(subject=f"ai.admin.{command}.{target}", missing=f"admin: [{command}]")
    platform.answers(greeting=error)
    err = platform.run("call", "greeting", "{}", "--as", "amy")[2].splitlines()
    assert err[0].endswith(message)
    assert hint in err[1]


def test_only_an_unreachable_server_is_a_reason_to_start_one(platform: Platform) -> None:
    for reason, started in (("unreachable", True), ("tls", False), ("protocol", False), ("limit", False)):
        platform.answers(greeting=UnreachableError("no", url="tls://h:1", reason=reason))
        assert ("garrison up" in platform.run("call", "greeting", "{}", "--as", "amy")[2]) is started


def test_a_control_character_in_a_failure_never_reaches_the_terminal(platform: Platform) -> None:
    platform.answers(greeting=HandlerFailedError(code=500, message="\x1b[2Jgone\nerror: fake", correlation_id=ID))
    err = platform.run("call", "greeting", "{}", "--as", "amy")[2]
    assert "\x1b" not in err
    assert "\nerror: fake" not in err


def test_ctrl_c_ends_with_130(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "converse", interrupted)
    assert platform.run("status") == (130, "", "error: interrupted\n")
