"""Bad input: one clear error, exit code 2, nothing sent, no traceback."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.cli.call import read_object
from runtime.cli.exits import CommandError
from runtime.cli.main import run, wants_json
from runtime.cli.options import seconds
from runtime.cli.output import json_text, safe_text, table

BAD_NAMES = [
    "",
    "a.b",
    "a b",
    "*",
    ">",
    "$SYS",
    "a/b",
    "../x",
    "x" * 300,
    "nur\u0455e",
    "é",
    "a\nb",
    "\x00",
    "a\x1b[1m",
]


@pytest.fixture(autouse=True)
def _no_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GARRISON_DIR", raising=False)
    (tmp_path / "garrison-data" / "operator").mkdir(parents=True)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused as bad input; its error, which is one line and at most a hint."""
    before = sorted(Path.cwd().rglob("*"))
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert all(char.isprintable() or char == "\n" for char in printed.err)
    assert sorted(Path.cwd().rglob("*")) == before
    return lines[0]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("command", ["create", "show", "suspend", "resume", "delete"])
def test_a_name_that_no_tenant_can_have(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "tenant name" in refused(["tenant", command, "--", name], capsys)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_user_or_role_can_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    issue = ["creds", "issue", "--out", "o"]
    assert "user name" in refused([*issue, "--role=nurse", "--", "st-marys", name], capsys)
    assert "role name" in refused([*issue, f"--role={name}", "--", "st-marys", "amy"], capsys)


@pytest.mark.parametrize("name", ["", "A", "a..b", "a.*", "a.b.c.d.e", "é", "$SYS", "x" * 300])
def test_a_name_that_no_capability_can_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "capability name" in refused(["call", "--as", "amy", "--", name, "{}"], capsys)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{",
        "[]",
        "3",
        "null",
        '"a"',
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        "@missing.json",
        "\udcff",
    ],
)
def test_input_that_is_no_json_object(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["call", "greeting", text, "--as", "amy"], capsys)


@pytest.mark.parametrize("text", ["", "8 h", "-1h", "1w", "1.5h", "0", "0s", "367d", "9" * 12, "٣h", "h"])
def test_a_time_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["creds", "issue", "st-marys", "amy", "--role", "nurse", "--out", "o", f"--ttl={text}"], capsys)


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("30m", 1800), ("8h", 28800), ("7d", 604800)])
def test_a_time_in_its_units(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "arguments", [["tenant", "creat"], ["tenant", "create"], ["call", "x"], ["--no"], ["status", "x"]]
)
def test_wrong_usage_points_to_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "--help`" in err


def test_wrong_usage_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tenant", "create", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
    assert not wants_json(["call", "--", "--json"])


def test_a_platform_that_is_not_there_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tenant", "list", "--dir", str(tmp_path / "none")]) == 1
    assert "garrison up" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_folder_that_holds_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    assert "context.json" in refused(["tenant", "list"], capsys)
    assert "not a credentials folder" in refused(["call", "greeting", "{}", "--as", "nobody"], capsys)


def test_a_policy_file_that_is_not_there_not_text_or_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none.yaml" in refused(["policy", "apply", "none.yaml"], capsys)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    refused(["policy", "apply", "binary.yaml"], capsys)
    (tmp_path / "large.yaml").write_bytes(b"#" * 2_000_000)
    refused(["policy", "apply", "large.yaml"], capsys)


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {
        "tenant": ["create", "list", "show", "suspend", "resume", "delete"],
        "policy": ["apply", "show", "lint", "explain", "diff"],
        "creds": ["issue", "list", "revoke"],
        "agent": ["deploy", "list", "stop"],
        "call": [],
        "status": [],
    }
    for group, commands in tree.items():
        for command in commands or [""]:
            assert run([part for part in (group, command, "--help") if part]) == 0
            out = capsys.readouterr().out
            assert f"garrison {group} {command}".rstrip() in out.split("Examples:")[1]
            assert "--json" in out


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_reading_any_text_as_input_gives_an_object_or_one_error(text: str) -> None:
    if text == "-" or text.startswith("@"):
        return
    with contextlib.suppress(CommandError):
        assert isinstance(read_object(text), dict)


@given(
    st.recursive(
        st.text() | st.integers() | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_printed_as_json_is_printable_and_reads_back(value: object) -> None:
    text = json_text(value)
    assert all(char.isprintable() for char in text)
    assert json.loads(text) == value


@given(st.text())
def test_no_text_reaches_the_terminal_with_control_characters(text: str) -> None:
    assert safe_text(text).isprintable()
    assert all(line.isprintable() for line in table(["a"], [[text]]))
