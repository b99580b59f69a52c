"""Loading an agent's code: a private copy for each deployment, and one error whatever goes wrong."""

import sys
from pathlib import Path

import pytest

from runtime.agent import Agent
from runtime.host.errors import AgentLoadError
from runtime.host.loader import load_agent_class

COUNTING = """
from runtime.agent import Agent, capability
from .state import seen
from .sub import deeper

class Counting(Agent):
    @capability("count")
    async def count(self, request: dict) -> dict:
        return {}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "state.py").write_text("seen = []\n")
    (tmp_path / "sub" / "__init__.py").write_text("from ..state import seen as deeper\n")
    (tmp_path / "agent.py").write_text(COUNTING)
    return tmp_path


def write(folder: Path, code: str) -> Path:
    (folder / "__init__.py").write_text("")
    (folder / "agent.py").write_text("from runtime.agent import Agent\n" + code)
    return folder


def test_each_load_has_modules_of_its_own(package: Path) -> None:
    first = load_agent_class(package, "agent:Counting", agent="one")
    second = load_agent_class(package, "agent:Counting", agent="two")
    assert first.agent_class is not second.agent_class
    sys.modules[f"{first.package}.state"].seen.append(1)
    assert sys.modules[f"{second.package}.state"].seen == []
    assert sys.modules[f"{first.package}.agent"].deeper == [1]
    for code in (first, second):
        code.unload()
        assert not [name for name in sys.modules if name.startswith(code.package)]


def test_class_need_not_be_named_where_there_is_one(package: Path) -> None:
    code = load_agent_class(package, "agent", agent="one")
    assert code.agent_class.__name__ == "Counting"
    code.unload()


def test_snapshot_hides_no_installed_package_and_is_not_importable_by_its_own_name(package: Path) -> None:
    (package / "json.py").write_text("raise AssertionError\n")
    (package / "agent.py").write_text("import json\n" + COUNTING)
    code = load_agent_class(package, "agent:Counting", agent="one")
    assert "json" in sys.modules
    assert "state" not in sys.modules
    code.unload()


@pytest.mark.parametrize(
    ("code", "entry", "says"),
    [
        ("raise ValueError('no\\nlicence')", "agent", "ValueError: no licence"),
        ("raise SystemExit('bye')", "agent", "SystemExit: bye"),
        ("raise KeyboardInterrupt", "agent", "KeyboardInterrupt"),
        ("raise GeneratorExit", "agent", "GeneratorExit"),
        ("class A(Agent", "agent", "SyntaxError"),
        ("from . import absent", "agent", "absent"),
        ("import absent_altogether", "agent", "absent_altogether"),
        ("", "agent", "found none"),
        ("class A(Agent): pass\nclass B(Agent): pass", "agent", "found A, B"),
        ("class A: pass", "agent:A", "`A` is not an agent class"),
        ("class A(Agent): pass", "agent:B", "`B` is not an agent class"),
        ("class A(Agent): pass", "elsewhere:A", "elsewhere"),
        ("class A(Agent): pass", ":A", "failed"),
        ("class A(Agent): pass", "..agent:A", "failed"),
    ],
)
def test_whatever_is_wrong_is_one_error_and_leaves_no_modules(tmp_path: Path, code: str, entry: str, says: str) -> None:
    before = set(sys.modules)
    with pytest.raises(AgentLoadError) as caught:
        load_agent_class(write(tmp_path, code), entry, agent="mine")
    assert says in str(caught.value)
    assert str(caught.value).startswith("agent `mine`: ")
    assert "\n" not in str(caught.value)
    assert "_garrison_agent_" not in str(caught.value)
    assert not [name for name in set(sys.modules) - before if name.startswith("_garrison_agent_")]


def test_agent_imported_from_elsewhere_is_not_taken_for_the_modules_own(tmp_path: Path) -> None:
    code = load_agent_class(write(tmp_path, "class Mine(Agent): pass\nOther = Agent\n"), "agent", agent="mine")
    assert code.agent_class.__name__ == "Mine"
    assert issubclass(code.agent_class, Agent)
    code.unload()
