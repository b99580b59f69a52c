"""The pages for operators, tenants' administrators and callers: what they show works as shown."""

import json
import re
import shlex
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform, running_platform

from runtime.envelope.messages import parse_request

PAGES = {name: (REPOSITORY / f"docs/{name}.md").read_text() for name in ("operator", "tenant-admin", "callers")}


def commands(page: str) -> list[list[str]]:
    """The `garrison` lines of a page, without those that start something that stays."""
    lines = re.findall(r"^\$ garrison (.*)$", PAGES[page], re.MULTILINE)
    return [shlex.split(line) for line in lines if not line.startswith(("up ", "host run "))]


def block(page: str, language: str, number: int = 0) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)[number])


@pytest.mark.timeout(150)
def test_every_command_on_the_pages_does_what_the_page_says(tmp_path: Path) -> None:
    with running_platform(tmp_path) as platform:
        (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
        (tmp_path / "st-marys.yaml").write_text(block("tenant-admin", "yaml"))
        (tmp_path / "observations.json").symlink_to(REPOSITORY / "examples/healthcare/deteriorating.json")
        before = [c for c in commands("operator") if c[:2] != ["agent", "stop"]]
        for command in [*before, *for_administrators(), *commands("tenant-admin")[:2], *for_callers()]:
            platform.must(*[word for word in command if word != "--json"])
        for command in (["creds", "revoke", "st-marys", "amy", "--as", "bea"], ["agent", "stop", "st-marys", "vitals"]):
            platform.must(*command)
        codes_of_the_table(platform)


def for_administrators() -> list[list[str]]:
    table = re.findall(r"^\| `garrison (.*?)` \|", PAGES["tenant-admin"], re.MULTILINE)
    assert len(table) == 6
    return [shlex.split(line.replace("FILE", "st-marys.yaml")) for line in table]


def for_callers() -> list[list[str]]:
    return [command for command in commands("callers") if command[1] == "vitals.assess"]


def codes_of_the_table(platform: RunningPlatform) -> None:
    assert platform.run("tenant", "show", "nobody").code == 1
    assert platform.run("tenant", "create", "a b").code == 2
    assert platform.run("tenant", "create", "other", "--as", "bea").code == 3
    assert platform.run("call", "vitals.assess", "{}", "--as", "amy").code == 3


def test_the_envelope_on_the_page_is_one() -> None:
    request = parse_request(block("callers", "json", 1).encode(), fallback_id="none")
    assert request.enveloped
    assert json.loads(request.data) == {"name": "World"}


def test_every_code_that_a_call_can_fail_with_is_on_the_page() -> None:
    from runtime.dispatch.errors import TEXTS

    assert set(TEXTS) <= {int(code) for code in re.findall(r"^\| (\d{3}) \|", PAGES["callers"], re.MULTILINE)}
