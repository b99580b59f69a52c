"""`garrison keys` and `garrison call --seal`, against a stand-in for the platform."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_client import FakeClient

import runtime.client
from runtime.cli.main import run
from runtime.client import AnswerRefusedError, ClientError, FolderError, InvalidRequestError, KeyRefusedError

ID = "3f0c5a52-7d0e-4a56-9d3e-0d2b1f6c9a11"
VERSIONS = [
    {"version": 1, "state": "opening", "created_at": 0},
    {"version": 2, "state": "active", "created_at": 86_400},
]
PHI = {"label": "phi", "subject": None, "versions": VERSIONS}
PATIENT = {"label": "phi", "subject": "patient/4711", "versions": VERSIONS[1:]}


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime.client, "Client", FakeClient)
    monkeypatch.setenv("GARRISON_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "operator").mkdir(parents=True)
    FakeClient.answers, FakeClient.sent = {}, []
    yield
    FakeClient.answers, FakeClient.sent, FakeClient.folder = {}, [], None


def run_with(capsys: pytest.CaptureFixture[str], *arguments: str, **answers: Any) -> tuple[int, str, str]:
    FakeClient.answers = {name.replace("__", "."): answer for name, answer in answers.items()}
    code = run(arguments)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out, printed.err


def test_keys_list_names_every_version_by_its_key_id(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_with(capsys, "keys", "list", "st-marys", keys__list={"keys": [PHI, PATIENT]})
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["KEY", "STATE"],
        ["phi@1", "opening"],
        ["phi@2", "active"],
        ["phi/patient/4711@2", "active"],
    ]
    assert FakeClient.sent == [("keys.list", "st-marys", {})]


def test_keys_list_as_json_is_the_answer_itself(capsys: pytest.CaptureFixture[str]) -> None:
    out = run_with(capsys, "keys", "list", "st-marys", "--json", keys__list={"keys": [PHI]})[1]
    assert json.loads(out) == {"keys": [PHI]}


def test_a_tenant_without_keys_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no data keys" in run_with(capsys, "keys", "list", "st-marys", keys__list={"keys": []})[1]


def test_keys_rotate_names_the_version_that_seals_now(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_with(capsys, "keys", "rotate", "st-marys", "phi", keys__rotate=PHI)
    assert (code, "`phi@2` seals from now on" in out) == (0, True)
    command = ("keys", "rotate", "st-marys", "phi", "--data-subject", "patient/4711", "--json")
    code, out, _ = run_with(capsys, *command, keys__rotate=PATIENT)
    assert (code, json.loads(out)) == (0, PATIENT)
    assert [data for _, _, data in FakeClient.sent] == [{"label": "phi"}, {"label": "phi", "subject": "patient/4711"}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "rotate", "st-marys", "PHI"),
        ("keys", "rotate", "st-marys", "phi@1"),
        ("keys", "rotate", "st-marys", "phi/x"),
        ("keys", "rotate", "st-marys", "phi", "--data-subject", "a//b"),
        ("keys", "rotate", "St Marys", "phi"),
        ("keys", "list", "*"),
        ("call", "greeting", "{}", "--as", "amy", "--seal", ""),
        ("call", "greeting", "{}", "--as", "amy", "--seal", "phi", "--data-subject", "a b"),
        ("call", "greeting", "{}", "--as", "amy", "--data-subject", "patient/4711"),
    ],
)
def test_what_can_name_no_key_is_bad_input_and_nothing_is_sent(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, out, err = run_with(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert FakeClient.sent == []


def test_call_passes_the_label_and_the_data_subject_on(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--seal", "phi", "--data-subject", "patient/4711")
    code, out, _ = run_with(capsys, "call", "greeting", "{}", "--as", "amy", *options, greeting={"risk": "low"})
    assert (code, json.loads(out)) == (0, {"risk": "low"})
    assert "'seal': 'phi', 'subject': 'patient/4711'" in FakeClient.sent[0][1]


FAILURES: list[tuple[ClientError, int, str, str]] = [
    (
        KeyRefusedError(code=403, message="no key", correlation_id=ID, required="data:phi", role="clerk"),
        3,
        "key_refused",
        "data: [phi]",
    ),
    (AnswerRefusedError(code=500, message="does not open", correlation_id=ID), 1, "answer_refused", ID),
    (
        InvalidRequestError(code=400, message="sealed only", correlation_id=ID, required="sealed:phi"),
        2,
        "bad_input",
        "sealed:phi",
    ),
    (FolderError("no pin", path="amy", remedy="issue credentials"), 2, "bad_folder", "issue credentials"),
]


@pytest.mark.parametrize(("error", "exit_code", "slug", "said"), FAILURES, ids=[slug for _, _, slug, _ in FAILURES])
def test_each_failure_of_a_sealed_call_has_its_code_and_way_out(
    capsys: pytest.CaptureFixture[str], error: ClientError, exit_code: int, slug: str, said: str
) -> None:
    command = ("call", "greeting", "{}", "--as", "amy", "--seal", "phi")
    code, out, err = run_with(capsys, *command, greeting=error)
    assert (code, out, said in err) == (exit_code, "", True)
    code, _, err = run_with(capsys, *command, "--json", greeting=error)
    assert (code, json.loads(err)["code"]) == (exit_code, slug)


def test_what_a_refusal_requires_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = KeyRefusedError(code=403, message="no key", correlation_id=ID, required="data:notes", role="clerk")
    _, _, err = run_with(capsys, "call", "greeting", "{}", "--as", "amy", greeting=error)
    assert err.count("data:notes") == 1
    assert "`data: [notes]`" in err
