"""P8 with every process: `garrison up` and the commands, as users run them, the master key given by the environment.

After a tenant was made, credentials issued, an agent deployed and called, mistakes made and a process killed, every
secret of the run is looked for in what the commands printed, in every file, and in the arguments and environment of
each process. The key that seals the others must not even reach the processes that have no use for it.
"""

import os
import signal
from pathlib import Path

import pytest
from running_platform import REPOSITORY, RunningPlatform, running_platform
from secret_search import contents, holds, others_can_read, places_of, secrets_in, secrets_stored

from certs.keystore import KeyStore
from certs.masterkey import MasterKey

POLICY = 'tenant: st-marys\nroles:\n  clerk:\n    call: [greeting]\n  admin:\n    admin: ["credentials.*"]\n'
OWN_PLACES = ("-key.pem", "user.creds")


@pytest.mark.timeout(120)
def test_p8_no_secret_of_a_full_run_is_found_outside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master = MasterKey.generate()
    monkeypatch.setenv("GARRISON_MASTER_KEY", master)
    with running_platform(tmp_path) as platform:
        monkeypatch.delenv("GARRISON_MASTER_KEY")  # the commands don't need it
        said = use_and_misuse(platform)
        supervisor = platform._process.pid if platform._process else 0
        processes = {name: text for pid in family_of(supervisor) for name, text in seen_of(pid).items()}
        kill_the_last_child(supervisor)
        said += platform.run("status").out
    secrets = {master.encode()} | secrets_stored(KeyStore(platform.data / "keys", MasterKey(master, source="a test")))
    files = contents(tmp_path)
    own = {name: text for name, text in files.items() if name.endswith(OWN_PLACES)}
    secrets |= set().union(*(secrets_in(text) for text in own.values()))

    assert len(secrets) > 15
    assert len(processes) >= 6
    assert places_of(secrets, {"what was printed": said.encode()}) == set()
    assert places_of(secrets, processes) == {f"{supervisor} environ"}  # where the test put the master key
    assert places_of(secrets, files) == set(own)
    assert {path.name for path in tmp_path.rglob("*") if others_can_read(path) and holds(path, secrets)} == set()


def use_and_misuse(platform: RunningPlatform) -> str:
    """Everything that the commands printed."""
    (platform.folder / "policy.yaml").write_text(POLICY)
    said = ""
    for command in (
        ["tenant", "create", "st-marys"],
        ["policy", "apply", "policy.yaml"],
        ["creds", "issue", "st-marys", "ann", "--role", "clerk", "--out", "ann"],
        ["agent", "deploy", "st-marys", str(REPOSITORY / "examples/hello")],
        ["call", "greeting", '{"name": "World"}', "--as", "ann"],
        ["policy", "apply", "ann/user.creds"],
        ["call", "greeting", "{}", "--as", "ann/user.creds"],
        ["agent", "deploy", "st-marys", "ann"],
        ["creds", "revoke", "st-marys", "ann"],
        ["call", "greeting", "{}", "--as", "ann"],
    ):
        finished = platform.run(*command)
        said += finished.out + finished.err
    assert "World" in said
    return said


def family_of(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family_of(int(child)))]


def seen_of(pid: int) -> dict[str, bytes]:
    return {f"{pid} {what}": Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ")}


def kill_the_last_child(supervisor: int) -> None:
    os.kill(family_of(supervisor)[-1], signal.SIGABRT)
