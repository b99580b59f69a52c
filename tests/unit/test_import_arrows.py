"""The contract that holds who may import whom: it must see what it is for."""

from pathlib import Path

import pytest
from grimp import ImportGraph

ROOT = Path(__file__).parents[2]
ALLOWED = ["authz ->", "certs ->", "runtime ->", "runtime.bus -> authz, nats", "runtime.host -> runtime.bus"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(ROOT)
    from scripts.import_arrows import ArrowsContract

    def check(*imports: tuple[str, str]) -> list[str]:
        graph = ImportGraph()
        for module in {name for pair in imports for name in pair}:
            graph.add_module(module, is_squashed=module == "nats")
        for importer, imported in imports:
            graph.add_import(importer=importer, imported=imported)
        contract = ArrowsContract("arrows", {}, {"name": "arrows", "type": "arrows", "arrows": ALLOWED})
        result = contract.check(graph, verbose=False)
        assert result.kept == (not result.metadata["wrong"])
        return list(result.metadata["wrong"])

    return check


def test_listed_arrows_and_imports_within_a_component_are_kept(broken) -> None:  # noqa: ANN001
    assert (
        broken(
            ("runtime.bus.client", "nats"),
            ("runtime.bus.client", "runtime.bus.message"),
            ("runtime.host.loader", "runtime.bus.client"),
            ("runtime.bus", "authz.keys"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("authz.keys", "certs.errors"),
        ("authz.keys", "nats"),
        ("certs.keystore", "authz.keys"),
        ("runtime", "runtime.bus"),
        ("runtime.bus.client", "runtime.host.loader"),
        ("runtime.host.loader", "nats"),
        ("runtime.host.loader", "authz.keys"),
    ],
)
def test_an_arrow_that_is_not_listed_is_refused(broken, importer: str, imported: str) -> None:  # noqa: ANN001
    assert broken((importer, imported)) == [f"{importer} imports {imported}"]


def test_a_folder_that_is_not_listed_is_refused_as_soon_as_it_imports(broken) -> None:  # noqa: ANN001
    assert broken(("runtime.surprise.thing", "runtime.bus.client")) == ["runtime.surprise is not in the list of arrows"]


def test_nobody_may_import_a_folder_that_is_not_listed(broken) -> None:  # noqa: ANN001
    assert broken(("runtime.host.loader", "runtime.surprise")) != []
