"""Finds the agent that `agent deploy` was given: its files, and the class in them. Nothing of it is run.

An agent is named by a file (`agent.py[:Class]`), a folder (`vitals[:Class]`), an import path
(`package.module:Class`) or an entry point of the group `garrison.agents`. What is deployed is the whole package that
the class is in; a lone module is deployed alone.

The class is found by reading the source, never by importing it: who deploys another's agent does not run it with the
operator's credentials at hand.
"""

import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.cli.exits import bad_input
from runtime.host.snapshot import Snapshot, pack_file, pack_folder, read_snapshot

ENTRY_POINT_GROUP = "garrison.agents"

_CLASS_SUFFIX = re.compile(r"(.+):([A-Za-z_][A-Za-z0-9_]*)", re.DOTALL)
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_WAYS = "name a file (agent.py:Class), a folder (vitals:Class), an import path (package.module:Class) or an entry point"


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSource:
    """An agent as found.

    Attributes:
        snapshot: Its packed files.
        entry: `module:Class` inside the snapshot.
        agent: The name that the class gives itself.
    """

    snapshot: Snapshot
    entry: str
    agent: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A class that looks like an agent, in one module of the snapshot."""

    module: str
    name: str
    agent: str


def find_agent(text: str, *, working_folder: Path) -> AgentSource:
    """Find the agent that `text` names.

    Raises:
        CommandError: There is none, or more than one to choose from.
        SnapshotError: Its files can't be packed.
    """
    where, class_name = _split(text)
    if not where:
        raise bad_input("no agent was named", hint=_WAYS)
    path = working_folder / where
    if path.is_dir():
        return _source(pack_folder(path), None, class_name, text)
    if where.endswith(".py"):
        if not path.is_file():
            raise bad_input(f"`{where}` does not exist")
        return _from_file(path, class_name, text)
    if class_name is None:
        where, class_name = _entry_point(where)
    if not _MODULE.fullmatch(where):
        raise bad_input(f"`{where}` is neither a file, a folder nor an import path", hint=_WAYS)
    return _from_file(_module_file(where, working_folder), class_name, text)


def _split(text: str) -> tuple[str, str | None]:
    matched = _CLASS_SUFFIX.fullmatch(text)
    return (matched[1], matched[2]) if matched else (text, None)


def _entry_point(name: str) -> tuple[str, str | None]:
    found = list(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(found) > 1:
        raise bad_input(f"more than one installed package offers an agent `{name}`")
    if found:
        return _split(found[0].value)
    if "." in name:
        return name, None
    raise bad_input(f"no agent `{name}` was found", hint=_WAYS)


def _module_file(module: str, working_folder: Path) -> Path:
    """Where a module's source is, found without importing it or its parents."""
    top, *rest = module.split(".")
    search = [str(working_folder), *sys.path]
    spec = importlib.machinery.PathFinder.find_spec(top, search) or importlib.util.find_spec(top)
    name = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            break
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    if spec is None or name != module or spec.origin is None or not spec.origin.endswith(".py"):
        raise bad_input(f"no Python module `{module}` was found", hint=_WAYS)
    return Path(spec.origin)


def _from_file(path: Path, class_name: str | None, text: str) -> AgentSource:
    """Pack the whole package that the file is in, up to its outermost folder, or the file alone."""
    root = path.parent
    if not (root / "__init__.py").is_file():
        return _source(pack_file(path), path.stem, class_name, text)
    while (root.parent / "__init__.py").is_file():
        root = root.parent
    module = ".".join(path.relative_to(root).with_suffix("").parts)
    return _source(pack_folder(root), module, class_name, text)


def _source(snapshot: Snapshot, module: str | None, class_name: str | None, text: str) -> AgentSource:
    """Choose the class: in the one module that was named, else anywhere in the package."""
    files = read_snapshot(snapshot.data, digest=snapshot.digest)
    found = [
        candidate
        for name in snapshot.files
        if name.endswith(".py") and module in {None, _module_name(name)}
        for candidate in _agents_in(name, files[name], class_name)
    ]
    if not found:
        raise bad_input(f"no agent class {f'`{class_name}` ' if class_name else ''}was found in `{text}`", hint=_WAYS)
    if len(found) > 1:
        choices = tuple(f"{candidate.module}:{candidate.name}" for candidate in found)
        hint = "name one: ….py:Class" if class_name else f"name one, as in `{text}:{found[0].name}`"
        raise bad_input(f"`{text}` holds more than one agent class", hint=hint, details=choices)
    chosen = found[0]
    return AgentSource(snapshot=snapshot, entry=f"{chosen.module}:{chosen.name}", agent=chosen.agent)


def _module_name(file: str) -> str:
    return ".".join(PurePosixPath(file).with_suffix("").parts)


def _agents_in(file: str, content: bytes, class_name: str | None) -> Iterator[_Found]:
    """The module's agent classes; with `class_name` the one of that name, whatever its bases are."""
    try:
        tree = ast.parse(content, filename=file)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f" at line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise bad_input(f"`{file}` is not valid Python{line}") from error
    agents: set[str] = {"Agent"}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        is_agent = any(_last_name(base) in agents for base in node.bases)
        if is_agent:
            agents.add(node.name)
        if node.name == class_name or (is_agent and class_name is None and not node.name.startswith("_")):
            yield _Found(module=_module_name(file), name=node.name, agent=_agent_name(node))


def _last_name(base: ast.expr) -> str:
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


def _agent_name(node: ast.ClassDef) -> str:
    """What the class calls itself: its literal `name`, else its own name in kebab case."""
    from runtime.agent.agent import kebab_case

    for statement in node.body:
        target: ast.expr | None = None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        if isinstance(target, ast.Name) and target.id == "name":
            value = getattr(statement, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    return kebab_case(node.name)
