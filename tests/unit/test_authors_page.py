"""The authors' page: each of its Python blocks runs, in order, as a reader would type them."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runtime.agent import capability_table

PAGE = Path(__file__).parents[2] / "docs/authors.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def page() -> Iterator[ModuleType]:
    module = ModuleType("authors_page")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_every_block_runs_and_every_agent_in_it_can_be_served(page: ModuleType) -> None:
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), vars(page))  # noqa: S102 - our own page
    offered = {
        name
        for cls in (page.DosingAgent, page.HelloWorldAgent, page.RoundsAgent, page.LabAgent)
        for name in capability_table(cls())
    }
    assert offered == {"dosing.suggest", "greeting", "echo", "rounds.prepare", "lab.assess"}
