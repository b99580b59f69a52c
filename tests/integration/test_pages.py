"""The pages for operators, administrators and callers: every command on them runs, and prints what the page says.

In a `console` block a line after `$ ` is typed; the lines below it are what it prints, with `…` for what differs from
run to run. A `yaml` or `python` block is the file that its first line names. What starts something that stays is
only shown: the test's platform runs.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform, running_platform

from runtime.cli.exits import Exit
from runtime.dispatch.errors import TEXTS
from runtime.envelope.messages import parse_request

pytestmark = pytest.mark.timeout(120)

DOCS = REPOSITORY / "docs"
SHOWN_ONLY = ("garrison up", "garrison demo", "garrison host run")
BLOCK = re.compile(r"^```(console|yaml|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A block of a page: a file, a program, or commands."""

    kind: str
    text: str

    @property
    def file(self) -> str:
        """The name in the first line's comment."""
        named = re.match(r"# (\S+)\n", self.text)
        assert named, f"the first line names no file: {self.text[:80]}"
        return named[1]

    def commands(self) -> Iterator[tuple[str, str]]:
        """What is typed, and what it prints."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed


def steps(page: str) -> list[Step]:
    return [Step(kind=kind, text=text) for kind, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]


def as_shown(printed: str, shown: str) -> bool:
    """Whether what was printed is what the page shows, column widths aside."""
    pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", " ".join(shown.split())))
    return re.fullmatch(pattern, " ".join(printed.split()), re.DOTALL) is not None


@pytest.mark.parametrize("page", ["operator.md", "tenant-admin.md", "callers.md"])
def test_every_command_of_a_page_prints_what_the_page_says(page: str, tmp_path: Path) -> None:
    with running_platform(tmp_path) as platform:
        (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
        if page != "operator.md":
            follow("operator.md", platform, until="<!-- the next pages begin here -->")
        if page == "callers.md":
            follow("tenant-admin.md", platform, until="<!-- the next page begins here -->")
        follow(page, platform)


def test_the_envelope_on_the_page_is_one() -> None:
    shown = re.findall(r"```json\n(.*?)```", (DOCS / "callers.md").read_text(), re.DOTALL)[1]
    request = parse_request(shown.encode(), fallback_id="none")
    assert request.enveloped
    assert json.loads(request.data) == {"name": "World"}


def test_every_code_that_a_call_can_fail_with_is_on_the_page() -> None:
    listed = re.findall(r"^\| (\d{3}) \|", (DOCS / "callers.md").read_text(), re.MULTILINE)
    assert set(TEXTS) <= {int(code) for code in listed}


def test_every_exit_code_is_on_the_page() -> None:
    listed = re.findall(r"^\| (\d+) \|", (DOCS / "operator.md").read_text(), re.MULTILINE)
    assert {int(code) for code in listed} == set(Exit)


def follow(page: str, platform: RunningPlatform, *, until: str = "") -> None:
    """Do what a page says, from its beginning."""
    text = (DOCS / page).read_text(encoding="utf-8")
    count = len(BLOCK.findall(text[: text.index(until)])) if until else None
    for step in steps(page)[:count]:
        if step.kind in {"yaml", "python"}:
            (platform.folder / step.file).write_text(step.text)
        else:
            for command, shown in step.commands():
                if not command.startswith(SHOWN_ONLY):
                    printed = typed(command, platform)
                    assert as_shown(printed, shown), f"{page}: {command}\nshown:\n{shown}\nprinted:\n{printed}"


def typed(command: str, platform: RunningPlatform) -> str:
    """Run a command line as a shell would; what it prints, errors included."""
    program, *arguments = shlex.split(command, comments=True)
    if program == "garrison":
        finished = platform.run(*arguments)
        return finished.out + finished.err
    assert program == "python", f"pages use garrison and python, not {program}"
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=platform.folder, capture_output=True, text=True, check=False, timeout=60
    )
    return ran.stdout if ran.returncode == 0 else ran.stdout + ran.stderr
