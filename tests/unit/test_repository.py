"""What holds for the repository as a whole: no secrets, locked dependencies with reasons, whole documents."""

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def normalized(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def declared() -> set[str]:
    everything = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    return {normalized(requirement) for requirement in everything}


# Put together here, so that this file itself passes the check.
SEED = "S" + "UA" + "B2C3D4E5F6G7H2J3" * 4
SECRETS = {
    "notes.txt": f"my seed is {SEED[:58]} keep it",
    "key.txt": "-----BEGIN " + "PRIVATE KEY-----\nMIG\n",
    "ec.txt": "-----BEGIN " + "EC PRIVATE KEY-----\nMIG\n",
    "jwt.txt": "-----BEGIN NATS " + "USER JWT-----\neyJ0eXAi",
    "user.creds": "x",
    "operator.nk": "x",
    "ca.pem": "x",
    "state/master.key": "x",
    "state/jetstream/meta": "x",
}


def check_secrets(folder: Path) -> "subprocess.CompletedProcess[str]":
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    script = ROOT / "scripts" / "check_no_secrets.py"
    return subprocess.run([sys.executable, script], cwd=folder, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("name", SECRETS)
def test_p8_a_secret_planted_in_the_repository_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text(SECRETS[name])
    result = check_secrets(tmp_path)
    assert result.returncode == 1
    assert name in result.stdout
    assert SECRETS[name] not in result.stdout or len(SECRETS[name]) == 1


def test_p8_what_only_speaks_of_secrets_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "docs.md").write_text(
        "a seed starts with SU, a key with `BEGIN PRIVATE KEY`, and user.creds holds both"
    )
    assert check_secrets(tmp_path).returncode == 0


def test_p8_the_repository_itself_holds_no_secret() -> None:
    script = ROOT / "scripts" / "check_no_secrets.py"
    assert subprocess.run([sys.executable, script], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)
    assert " @ " not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_locked_has_an_exact_version_and_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    loose = [entry for entry in entries if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", entry)]
    unhashed = [entry for entry in entries if "--hash=sha256:" not in entry]
    assert (loose, unhashed) == ([], [])


def test_every_dependency_is_locked() -> None:
    locked = {
        normalized(line) for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if line[:1].isalpha()
    }
    assert declared() <= locked


def test_every_dependency_has_its_reason_and_nothing_else_has_one() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/adr/0001-dependencies.md").read_text(), re.MULTILINE)
    named = {name.strip() for row in rows for name in row.split(",")} - {"package"}
    assert named == declared()


def test_the_licence_is_the_whole_published_text() -> None:
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_no_link_between_documents_is_broken() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_package_states_that_it_is_typed() -> None:
    for package in ("authz", "certs", "runtime"):
        assert (ROOT / package / "py.typed").exists()


def test_no_module_is_named_for_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [path for path in tracked() if path.stem in empty] == []
