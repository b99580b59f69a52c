"""Loads an agent's class from an unpacked snapshot, under a private module name.

Each deployment gets its own copy of its modules: two tenants, or two versions, never share module state. Code loads
as written, with relative imports inside the snapshot; whatever it raises, `SystemExit` too, becomes one
`AgentLoadError`.
"""

import importlib
import importlib.util
import inspect
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from runtime.agent import Agent
from runtime.host.errors import AgentLoadError, one_line

_PACKAGE_PREFIX = "_garrison_agent_"
_serial = itertools.count(1)


class LoadedCode(NamedTuple):
    """An agent's class and the private package that its modules live in."""

    agent_class: type[Agent]
    package: str

    def unload(self) -> None:
        """Forget the modules; objects already made live on until they are dropped."""
        for name in [n for n in sys.modules if n == self.package or n.startswith(f"{self.package}.")]:
            del sys.modules[name]


def load_agent_class(folder: Path, entry: str, *, agent: str) -> LoadedCode:
    """Import `entry` (`module:Class`, or `module` holding one agent) from `folder`.

    Raises:
        AgentLoadError: The code cannot be imported, or names no agent class.
    """
    module_name, _, class_name = entry.partition(":")
    package = f"{_PACKAGE_PREFIX}{next(_serial)}"
    try:
        _import_root(package, folder)
        module = importlib.import_module(f"{package}.{module_name}")
        return LoadedCode(_agent_class(module, class_name, agent), package)
    except AgentLoadError:
        LoadedCode(Agent, package).unload()
        raise
    except BaseException as error:
        LoadedCode(Agent, package).unload()
        # Private names would tell the author nothing.
        said = one_line(error).replace(f"{package}.", "").replace(package, "snapshot")
        raise AgentLoadError(agent, f"importing `{module_name}` failed: {said}") from error


def _import_root(package: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError("the snapshot holds no package")
    root = importlib.util.module_from_spec(spec)
    sys.modules[package] = root
    spec.loader.exec_module(root)


def _agent_class(module: ModuleType, class_name: str, agent: str) -> type[Agent]:
    if class_name:
        found = getattr(module, class_name, None)
        if not (inspect.isclass(found) and issubclass(found, Agent)):
            raise AgentLoadError(agent, f"`{class_name}` is not an agent class of its module")
        return found
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Agent) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        names = ", ".join(sorted(c.__name__ for c in own)) or "none"
        raise AgentLoadError(agent, f"expected one agent class in its module, found {names}: name it after `:`")
    return own[0]
