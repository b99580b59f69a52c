"""`policy lint`, `explain` and `diff`: on files, without a platform."""

import json
from pathlib import Path

import pytest
from fake_client import FakeClient

import runtime.client
from runtime.cli.main import run

POLICY = """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*]
  billing:
    call: [invoice.*]
    deny:
      call: [invoice.delete]
  monitor:
    inherits: [nurse]
    publish: [vitals.reading]
"""


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GARRISON_DIR", raising=False)
    (tmp_path / "p.yaml").write_text(POLICY)


def test_a_sound_policy_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "lint", "p.yaml"]) == 0
    assert "can be applied to `st-marys`" in capsys.readouterr().out


def test_a_warning_passes_unless_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(POLICY + "    deny:\n      call: [laundry]\n")
    assert run(["policy", "lint", "p.yaml"]) == 0
    assert "warning" in capsys.readouterr().out
    assert run(["policy", "lint", "p.yaml", "--strict", "--json"]) == 2
    refused = json.loads(capsys.readouterr().err)
    assert refused["code"] == "bad_policy"
    assert ("warning", 13) in {(finding["severity"], finding["line"]) for finding in refused["findings"]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tenant: a\nroles:\n  r:\n    cal: [x]\n", 4),
        ("tenant: a\nroles:\n  r:\n    call: [x]\n  r:\n    call: [y]\n", 5),
        ("tenant: a\nroles:\n  r:\n    inherits: [s]\n  s:\n    inherits: [r]\n", 6),
        ("tenant: a\nroles:\n  r:\n    call: [x.>.y]\n", 4),
        ("tenant: a\nroles:\n  r:\n", 3),
        ("tenant: a\nroles:\n  r:\n    call: &x [y]\n", 4),
        ("tenant: a b\nroles:\n  r:\n    call: [x]\n", 1),
        ("tenant: a\nroles:\n  r:\n    call: [x\n", 4),
    ],
    ids=["unknown-key", "duplicate", "cycle", "wildcard", "empty-role", "anchor", "name", "no-yaml"],
)
def test_a_fault_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int
) -> None:
    (tmp_path / "p.yaml").write_text(text)
    assert run(["policy", "lint", "p.yaml"]) == 2
    printed = capsys.readouterr()
    assert f"line {line}:" in printed.err
    assert "Traceback" not in printed.err


def test_a_roles_permissions_are_traced_to_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "explain", "p.yaml", "monitor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("ai.capabilities.vitals.*" in line and "nurse: call vitals.*" in line for line in lines)
    assert run(["policy", "explain", "p.yaml", "monitor", "--json"]) == 0
    permissions = json.loads(capsys.readouterr().out)["permissions"]
    assert {"ai.events.vitals.reading": 11}.items() <= {p["subject"]: p["line"] for p in permissions}.items()


@pytest.mark.parametrize(
    ("role", "resource", "effect", "line"),
    [("nurse", "vitals.assess", "allowed", 4), ("billing", "invoice.delete", "denied", 8), ("nurse", "x", "denied", 0)],
)
def test_a_decision_is_explained(
    capsys: pytest.CaptureFixture[str], role: str, resource: str, effect: str, line: int
) -> None:
    assert run(["policy", "explain", "p.yaml", role, "call", resource]) == 0
    assert capsys.readouterr().out.startswith(f"{effect}: ")
    assert run(["policy", "explain", "p.yaml", role, "call", resource, "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["effect"] == effect
    assert (explained["rule"] or {"line": 0})["line"] == line


@pytest.mark.parametrize("arguments", [["nurs"], ["nurse", "call"], ["nurse", "eat", "x"], [""]])
def test_a_question_that_can_not_be_asked_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(["policy", "explain", "p.yaml", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_difference_shows_what_widens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.yaml").write_text(POLICY.replace("invoice.delete", "invoice.void"))
    assert run(["policy", "diff", "new.yaml", "--against", "p.yaml"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "+ billing: deny call invoice.void (line 8; may do less)",
        "- billing: deny call invoice.delete (line 8; may do more)",
    ]
    assert run(["policy", "diff", "p.yaml", "--against", "p.yaml"]) == 0
    assert capsys.readouterr().out == "no change\n"


def test_a_difference_is_against_the_policy_in_force_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime.client, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "answers", {"policy.show": {"policy": POLICY.replace("vitals.*", "vitals.assess")}})
    (tmp_path / "garrison-data" / "operator").mkdir(parents=True)
    assert run(["policy", "diff", "p.yaml", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert {(c["role"], c["kind"], c["pattern"]) for c in changes} == {
        (role, *change)
        for role in ("nurse", "monitor")
        for change in [("added", "vitals.*"), ("removed", "vitals.assess")]
    }
