"""Finding an agent in source: what is packed, which class, and that nothing of it runs."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from runtime.cli import agentsource
from runtime.cli.agentsource import find_agent
from runtime.cli.exits import CommandError

AGENT = "raise SystemExit('it was run')\nfrom runtime.agent import Agent\nclass VitalsAgent(Agent):\n    pass\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic" / "vitals"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "agent.py").write_text(AGENT)
    (folder / "chart.py").write_text("class Chart: ...\n")
    return folder


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "text",
    [
        "clinic/vitals",
        "clinic/vitals:VitalsAgent",
        "clinic/vitals/agent.py",
        "clinic/vitals/agent.py:VitalsAgent",
        "clinic.vitals.agent:VitalsAgent",
    ],
)
def test_each_way_to_name_an_agent_finds_the_same_snapshot(tmp_path: Path, text: str) -> None:
    found = find_agent(text, working_folder=tmp_path)
    assert found.entry == "agent:VitalsAgent"
    assert found.agent == "vitals-agent"
    assert found.snapshot.files == ("__init__.py", "agent.py", "chart.py")


@pytest.mark.usefixtures("package")
def test_an_entry_point_finds_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("vitals", "clinic.vitals.agent:VitalsAgent", agentsource.ENTRY_POINT_GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [point])
    assert find_agent("vitals", working_folder=tmp_path).entry == "agent:VitalsAgent"


def test_the_outermost_package_is_packed_so_that_relative_imports_work(package: Path, tmp_path: Path) -> None:
    (package.parent / "__init__.py").write_text("")
    found = find_agent("clinic/vitals/agent.py", working_folder=tmp_path)
    assert found.entry == "vitals.agent:VitalsAgent"
    assert "__init__.py" in found.snapshot.files


def test_a_lone_module_is_packed_alone(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(AGENT)
    (tmp_path / "secret.txt").write_text("x")
    found = find_agent("hello.py", working_folder=tmp_path)
    assert (found.entry, found.snapshot.files) == ("hello:VitalsAgent", ("__init__.py", "hello.py"))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("class A(Agent):\n    name = 'vitals'\n", "vitals"),
        ("class A(Agent):\n    name: ClassVar[str] = 'vitals'\n", "vitals"),
        ("class VitalsAgent(agent.Agent): ...\n", "vitals-agent"),
        ("class _Base(Agent): ...\nclass Vitals(_Base): ...\n", "vitals"),
    ],
)
def test_the_name_is_what_the_class_calls_itself(tmp_path: Path, body: str, name: str) -> None:
    (tmp_path / "a.py").write_text(body)
    assert find_agent("a.py", working_folder=tmp_path).agent == name


def test_two_agents_have_to_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A(Agent): ...\nclass B(Agent): ...\n")
    with pytest.raises(CommandError, match="more than one") as caught:
        find_agent("a.py", working_folder=tmp_path)
    assert caught.value.failure.details == ("a:A", "a:B")
    assert caught.value.failure.hint.endswith(":A`")
    assert find_agent("a.py:B", working_folder=tmp_path).entry == "a:B"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "nowhere",
        "nowhere.py",
        "no.such.module:A",
        "clinic.vitals.agent:Nobody",
        "a b:C",
        "os.path:Agent",
        ":A",
        "clinic/vitals/chart.py",
    ],
)
def test_what_names_no_agent_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(CommandError) as caught:
        find_agent(text, working_folder=tmp_path)
    assert caught.value.failure.exit == 2


@pytest.mark.parametrize("body", ["class A(Agent:\n", "\x00", "x = " + "(" * 5000])
def test_source_that_is_no_python_is_one_clear_error(tmp_path: Path, body: str) -> None:
    (tmp_path / "a.py").write_text(body)
    with pytest.raises(CommandError, match="not valid Python"):
        find_agent("a.py", working_folder=tmp_path)
