"""The command as a process: what only shows there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **dict(options.pop("env", {}))}  # type: ignore[call-overload]
    return subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", *arguments],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("--help",), ("policy", "explain", "p.yaml", "nurse", "--json")])
def test_output_that_can_not_be_written_is_one_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "p.yaml").write_text("tenant: a\nroles:\n  nurse:\n    call: [x]\n")
    with Path("/dev/full").open("w") as full, start(*arguments, cwd=tmp_path, stdout=full) as process:
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert "no space left" in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("tenant: a\nroles:\n  nurse:\n    call: [x]\n")
    reader, writer = os.pipe()
    os.close(reader)
    with start("policy", "explain", "p.yaml", "nurse", cwd=tmp_path, stdout=writer) as process:
        os.close(writer)
        assert process.communicate(timeout=30)[1] == ""


def test_output_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    name = "Zoë.yaml"
    (tmp_path / name).write_text("tenant: a\nroles:\n  nurse:\n    call: [x]\n")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with start("policy", "lint", name, cwd=tmp_path, env=locale, stdout=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "can be applied" in out


def test_help_loads_neither_network_nor_cryptography() -> None:
    heavy = ("nats", "cryptography", "pydantic", "rich")
    code = f"import sys, runtime.cli.main as m; m.run(['--help']); print([n for n in {heavy} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_ctrl_c_while_it_is_still_loading_ends_it_without_a_word() -> None:
    code = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from runtime.cli.entry import main
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")
