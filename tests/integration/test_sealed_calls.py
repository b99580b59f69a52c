"""Sealed calls on a whole platform: by the command, by the client, and by a caller with nothing of ours."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform, running_platform

from runtime.client import Client, KeyRefusedError

pytestmark = pytest.mark.timeout(120)

PLAIN_CLIENT = REPOSITORY / "examples/healthcare/plain_client.py"
SECRET = "saw a raven on the ward"
POLICY = """\
tenant: ward
roles:
  nurse:
    call: [notes.*]
    data: [phi]
  clerk:
    call: [notes.*]
agents:
  notes:
    data: [phi]
"""
AGENT = '''\
"""Takes notes about patients."""

from pydantic import BaseModel

from runtime.agent import Agent, capability


class Note(BaseModel):
    text: str


class Kept(BaseModel):
    kept: str


class NotesAgent(Agent):
    name = "notes"
    version = "1.0.0"

    @capability("notes.keep", timeout=5, sensitive="phi")
    async def keep(self, note: Note) -> Kept:
        """Keep a note."""
        return Kept(kept=note.text)

    @capability("notes.count", timeout=5)
    async def count(self, note: Note) -> Kept:
        """Count letters."""
        return Kept(kept=str(len(note.text)))
'''


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    folder = tmp_path_factory.mktemp("ward")
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "notes").mkdir()
    (folder / "notes/__init__.py").touch()
    (folder / "notes/agent.py").write_text(AGENT)
    with running_platform(folder) as platform:
        platform.must("tenant", "create", "ward")
        platform.must("policy", "apply", "policy.yaml")
        platform.must("agent", "deploy", "ward", "notes")
        for name, role in (("amy", "nurse"), ("carl", "clerk")):
            platform.must("creds", "issue", "ward", name, "--role", role, "--out", name)
        yield platform


def plain_call(platform: RunningPlatform, person: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the plain client as a process that has no way to ours."""
    command = [sys.executable, PLAIN_CLIENT, str(platform.folder / person), *arguments]
    return subprocess.run(command, cwd=platform.folder, check=False, capture_output=True, text=True, timeout=30)


NOTE = json.dumps({"text": SECRET})


def test_the_plain_client_imports_nothing_of_ours() -> None:
    imported = set()
    for node in ast.walk(ast.parse(PLAIN_CLIENT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"cryptography", "nacl", "nats"}


@pytest.mark.parametrize("scope", ["phi", "phi/patient/4711"])
def test_a_caller_with_nothing_of_ours_seals_signs_calls_and_opens(platform: RunningPlatform, scope: str) -> None:
    finished = plain_call(platform, "amy", scope, "notes.keep", NOTE)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {"kept": SECRET}


def test_a_caller_with_nothing_of_ours_and_no_label_gets_no_key(platform: RunningPlatform) -> None:
    finished = plain_call(platform, "carl", "phi", "notes.keep", NOTE)
    assert (finished.returncode, finished.stdout) == (1, "")


@pytest.mark.parametrize("options", [(), ("--seal", "phi"), ("--seal", "phi", "--data-subject", "patient/4711")])
def test_the_command_seals_what_it_is_told_to_or_has_to(platform: RunningPlatform, options: tuple[str, ...]) -> None:
    finished = platform.run("call", "notes.keep", NOTE, "--as", "amy", *options)
    assert (finished.code, json.loads(finished.out or "{}")) == (0, {"kept": SECRET}), finished.err


def test_a_capability_that_is_not_sensitive_may_be_sealed_all_the_same(platform: RunningPlatform) -> None:
    finished = platform.run("call", "notes.count", NOTE, "--as", "amy", "--seal", "phi")
    assert finished.code == 0, finished.err
    assert json.loads(finished.out) == {"kept": str(len(SECRET))}


@pytest.mark.parametrize("options", [(), ("--seal", "phi")])
def test_a_role_without_the_label_is_told_which_one_it_lacks(
    platform: RunningPlatform, options: tuple[str, ...]
) -> None:
    finished = platform.run("call", "notes.keep", NOTE, "--as", "carl", *options, "--json")
    assert (finished.code, finished.json["code"], finished.json["required"]) == (3, "key_refused", "data:phi")


async def test_calls_go_on_through_a_rotation(platform: RunningPlatform) -> None:
    async with Client.connect(platform.folder / "amy") as client:
        for _ in range(3):
            assert await client.call("notes.keep", {"text": SECRET}, seal="phi") == {"kept": SECRET}
            async with Client.connect(platform.data / "operator") as operator:
                await operator.admin("keys.rotate", "ward", {"label": "phi"})
        assert await client.call("notes.keep", {"text": SECRET}, seal="phi") == {"kept": SECRET}
    async with Client.connect(platform.folder / "carl") as client:
        with pytest.raises(KeyRefusedError):
            await client.call("notes.keep", {"text": SECRET}, seal="phi")


def test_rotated_keys_are_listed_with_all_their_versions(platform: RunningPlatform) -> None:
    rotated = platform.must("keys", "rotate", "ward", "phi", "--data-subject", "patient/9")
    platform.must("keys", "rotate", "ward", "phi", "--data-subject", "patient/9")
    listed = {(entry["label"], entry["subject"]): entry for entry in platform.must("keys", "list", "ward")["keys"]}
    assert [version["state"] for version in rotated["versions"]] == ["active"]
    assert [version["state"] for version in listed["phi", "patient/9"]["versions"]] == ["opening", "active"]
    assert "phi/patient/9@2" in platform.run("keys", "list", "ward").out
    shown = json.dumps(list(listed.values()))
    assert set(next(iter(listed.values()))["versions"][0]) == {"version", "state", "created_at"}, shown


def test_every_folder_pins_the_one_control_plane(platform: RunningPlatform) -> None:
    folders: list[Path] = [platform.folder / "amy", platform.folder / "carl", platform.data / "operator"]
    pinned = {json.loads((folder / "context.json").read_text())["garrison"]["control"] for folder in folders}
    assert len(pinned) == 1


def test_sec_12_no_log_of_ours_holds_what_was_sealed(platform: RunningPlatform) -> None:
    assert platform.run("call", "notes.keep", NOTE, "--as", "amy", "--seal", "phi").code == 0
    assert SECRET not in platform.log
