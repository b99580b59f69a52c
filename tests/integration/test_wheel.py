"""The wheel holds everything that an installation needs: a checkout's folders are not there to help."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
FIND = """
from runtime.bus.serverconfig import find_nats_config
from runtime.cli.main import run
from runtime.wiring.examples import find_examples
import authz, certs, runtime
print(find_nats_config())
print(find_examples())
print(*authz.__path__, *certs.__path__, *runtime.__path__, sep="\\n")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, where an installation would put it."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(folder / built.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_installation_finds_its_configuration_and_examples_in_itself(installed: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-P", "-c", FIND],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(Path(line).is_relative_to(installed) for line in found), found
    assert (Path(found[0]) / "server.conf.template").is_file()
    assert {"hello", "healthcare"} <= {path.name for path in Path(found[1]).iterdir()}


def test_wheel_holds_the_packages_and_nothing_that_was_left_lying_about(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"authz", "certs", "runtime"}
    assert [path for path in installed.rglob("*") if path.suffix in {".pyc", ".jwt", ".nk", ".creds", ".pem"}] == []
    assert (installed / "runtime" / "py.typed").is_file()
