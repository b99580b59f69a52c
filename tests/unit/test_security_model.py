"""docs/security-model.md is held to what it says: each rule is there, is tested, and its tests exist and cite it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security-model.md").read_text()
RULES = [f"SEC-{number}" for number in range(1, 13)] + [f"P{number}" for number in range(1, 9)]
SECTIONS = {
    section.partition(":")[0]: section for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if ":" in section
}
NOT_BUILT = "**Not yet built.**"
NAMED = re.compile(r"^- `(tests/[^`:]+\.py)(?:::(\w+))?`", re.MULTILINE)
CODE = [path for folder in ("authz", "certs", "runtime", "nats-config", "tests") for path in (ROOT / folder).rglob("*")]
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)}


def cites(text: str, rule: str) -> bool:
    """`SEC-1`, `SEC-1c`, `test_sec_1_...`; `P4`, `test_p4_...`."""
    spelled = re.escape(rule).replace(r"\-", "[-_]")
    return re.search(rf"(?<![A-Za-z0-9])(?:test_)?{spelled}(?![0-9])", text, re.IGNORECASE) is not None


def test_each_rule_has_its_section_once_and_in_order() -> None:
    found = re.findall(r"^## ((?:SEC-|P)\d+):", PAGE, re.MULTILINE)
    assert found == RULES


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_built_and_names_its_tests_or_says_that_it_is_not(rule: str) -> None:
    section = SECTIONS[rule]
    if NOT_BUILT in section:
        assert not NAMED.search(section)
    else:
        assert "**Kept by**" in section
        assert NAMED.search(section), f"{rule} names no test"


@pytest.mark.parametrize("rule", [rule for rule in RULES if NOT_BUILT not in SECTIONS.get(rule, "")])
def test_a_rule_is_cited_by_a_test(rule: str) -> None:
    assert [path for path, text in TESTS.items() if cites(text, rule)]


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED.findall(PAGE))))
def test_a_test_named_on_the_page_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in defined if test else any(name.startswith("test_") for name in defined)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:authz|certs|runtime|nats-config|scripts)/[^`]*)`", PAGE)))
)
def test_a_place_named_on_the_page_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_no_rule_is_cited_that_is_not_on_the_page() -> None:
    known = set(RULES)
    unknown = {
        f"{path.relative_to(ROOT)}: {rule}"
        for path in CODE
        if path.suffix in {".py", ".template", ".yaml", ".md"}
        for rule in re.findall(r"\bSEC-\d+", path.read_text())
        if rule not in known
    }
    assert unknown == set()


def test_every_security_test_is_on_the_page() -> None:
    named = {file for file, _ in NAMED.findall(PAGE)}
    assert {f"tests/security/{path.name}" for path in (ROOT / "tests/security").glob("test_*.py")} <= named
