"""Each example can be deployed: its folder, copied anywhere and loaded under another name, still serves."""

import importlib.util
import inspect
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runtime.agent import Agent, capability_table

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLDERS = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "agent.py").is_file())


@pytest.fixture
def load(tmp_path: Path) -> Iterator[object]:
    before = set(sys.modules)

    def load_copy(folder: str) -> ModuleType:
        copy = shutil.copytree(EXAMPLES / folder, tmp_path / "snapshot")
        name = f"_deployed_{folder}"
        spec = importlib.util.spec_from_file_location(
            name, copy / "__init__.py", submodule_search_locations=[str(copy)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load_copy
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("folder", FOLDERS)
def test_example_serves_from_a_copy_under_another_name(load: object, folder: str) -> None:
    assert callable(load)
    module = load(folder)
    (cls,) = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Agent)]
    assert cls.__module__.startswith("_deployed_")
    assert capability_table(cls())


def test_every_example_agent_is_covered() -> None:
    assert {"hello", "hello_override", "healthcare"} <= set(FOLDERS)
