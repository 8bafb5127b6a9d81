"""What is public: the names in `__all__` of the public packages; README, guides and experiments use nothing else."""

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = (
    "jaxrecipe",
    "jaxrecipe.data",
    "jaxrecipe.training",
    "jaxrecipe.precision",
    "jaxrecipe.models",
    "jaxrecipe.demo",
    "jaxrecipe.catalogue",
    "jaxrecipe.compiles",
)
"""Everything outside of these is private, whatever it is called. docs/hooks/pages.py makes a page of each."""


def python_of(path: Path) -> Iterator[str]:
    """The Python in a file: all of it, or the fenced blocks of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield text
    else:
        yield from re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Pairs (module, name) that a source imports from the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jaxrecipe":
            yield from ((str(node.module), alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("jaxrecipe."))


def private(pairs: Iterator[tuple[str, str]]) -> list[str]:
    """Those that are not public."""
    return [
        f"{module}.{name}"
        for module, name in pairs
        if module not in PUBLIC or (name and name not in importlib.import_module(module).__all__)
    ]


USERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").rglob("*.py"))]


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_shown_to_users_imports_public_names_only(path: Path) -> None:
    found = [name for source in python_of(path) for name in private(imported(source))]
    assert not found, f"make these public in the __all__ of their package, or do without: {found}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there_and_documented(module: str) -> None:
    package = importlib.import_module(module)
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (inspect.getdoc(value) or "").strip(), f"{module}.{name} has no docstring"


def test_a_private_import_would_be_found() -> None:
    assert private(imported("from jaxrecipe.setup import Limit")) == ["jaxrecipe.setup.Limit"]
    assert private(imported("import jaxrecipe.probes.pairs")) == ["jaxrecipe.probes.pairs."]
    assert not private(imported("from jaxrecipe.data import Source"))


def test_the_site_has_a_page_for_each_public_package() -> None:
    source = (ROOT / "docs" / "hooks" / "pages.py").read_text(encoding="utf-8")
    block = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Assign) and "PUBLIC" in ast.unparse(n))
    assert ast.literal_eval(block.value) == PUBLIC
