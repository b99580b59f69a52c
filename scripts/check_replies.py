"""SEC-6: refuse code that answers by the NATS library's `Msg.respond`, which echoes the request's headers.

ruff's `banned-api` sees `Msg.respond` only where the class is named; nobody writes it so. This check goes by what can
be seen without types: in a file that imports `nats`, any use of an attribute `respond`; elsewhere, where no message of
the library should ever be, a call of it with fewer than the two arguments that ours takes.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("authz", "certs", "runtime", "examples")
METHODS = ("respond", "respond_sync")
_OURS_TAKES = 2  # reply, payload
WHY = "SEC-6: the library's `respond` echoes the request's headers: answer by `Connection.respond`"


def faults(source: str) -> Iterator[int]:
    """The lines of a module at which it answers by the library."""
    tree = ast.parse(source)
    with_library = any(_imports_nats(node) for node in ast.walk(tree))
    for node in ast.walk(tree):
        if with_library and isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.lineno
        if isinstance(node, ast.Call) and not with_library and _is_too_short(node):
            yield node.lineno


def _imports_nats(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == "nats" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "nats"


def _is_too_short(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in METHODS:
        return False
    is_open = any(isinstance(each, ast.Starred) for each in call.args) or any(not each.arg for each in call.keywords)
    return not is_open and len(call.args) + len(call.keywords) < _OURS_TAKES


def main() -> int:
    """Print each offending line; exit 1 when there is one."""
    root = Path(__file__).parents[1]
    found = [
        f"{path.relative_to(root)}:{line}: {WHY}"
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        for line in sorted(faults(path.read_text(encoding="utf-8")))
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
