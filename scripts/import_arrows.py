"""An import-linter contract that is a list of what may be imported: an arrow that is not listed is refused.

Components are the packages `authz` and `certs`, each module or package directly in `runtime`, and the external
packages that appear in the list. A component in the code that is not in the list is refused too, so that a new
folder has to say where it stands. Only direct imports are judged: each indirect one is made of them.
"""

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ArrowsContract(Contract):
    """`arrows` holds lines such as `runtime.bus -> authz, nats`; the right side may be empty."""

    type_name = "arrows"
    arrows = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - given by import-linter
        """Hold every import in the graph against the list."""
        allowed = _parse(list(self.arrows))
        known = set(allowed).union(*allowed.values())
        wrong = sorted(
            f"{importer} imports {imported}" if source in allowed else f"{source} is not in the list of arrows"
            for importer in graph.modules
            if _is_ours(source := _component(importer))
            for imported in graph.find_modules_directly_imported_by(importer)
            if (target := _component(imported)) != source
            and (target in known or _is_ours(target) or source not in allowed)
            and target not in allowed.get(source, set())
        )
        return ContractCheck(kept=not wrong, metadata={"wrong": list(dict.fromkeys(wrong))})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line an import."""
        for line in check.metadata["wrong"]:
            output.print_error(line, bold=False)


def _component(module: str) -> str:
    """`runtime.bus.client` is in `runtime.bus`, and `authz.keys` in `authz`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "runtime" else parts[0]


def _is_ours(component: str) -> bool:
    return component.split(".", maxsplit=1)[0] in {"authz", "certs", "runtime"}


def _parse(arrows: list[str]) -> dict[str, set[str]]:
    allowed = {}
    for arrow in arrows:
        source, _, targets = arrow.partition("->")
        allowed[source.strip()] = {target.strip() for target in targets.split(",") if target.strip()}
    return allowed
