"""The arrows between the modules, read from the source, and what `import jaxrecipe` pulls in."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxrecipe"

# What each unit (a module or a folder of the package) may import besides itself. A unit that is not here fails
# the test.
ARROWS: dict[str, set[str]] = {
    "trees": set(),
    "compiles": set(),
    "inputs": set(),
    "targets": set(),
    "diagnosis": set(),
    "report": {"diagnosis"},
    "models": set(),
    "data": {"trees"},
    "precision": {"trees"},
    "parts": set(),
    "adapters": {"parts", "trees"},
    "task": {"adapters", "parts", "inputs", "targets", "precision"},
    "objective": {"parts", "precision", "task"},
    "validate": {"objective", "parts", "task", "inputs", "targets", "data", "trees", "precision"},
    "training": {"objective", "parts", "task", "targets", "data", "trees", "precision", "validate"},
    "setup": {"objective", "training", "parts", "task", "targets", "data", "trees", "precision"},
    "probes": {
        "objective",
        "compiles",
        "setup",
        "inputs",
        "parts",
        "task",
        "targets",
        "data",
        "trees",
        "precision",
        "training",
        "report",
        "diagnosis",
    },
    "checks": {
        "objective",
        "probes",
        "setup",
        "inputs",
        "parts",
        "task",
        "targets",
        "data",
        "trees",
        "precision",
        "training",
        "report",
        "diagnosis",
    },
    "recipe": {"checks", "probes", "setup", "parts", "task", "validate", "report", "compiles"},
    "testing": {"checks", "recipe", "setup", "parts", "task", "validate", "report", "diagnosis"},
    "catalogue": {"adapters", "models", "parts", "task", "targets", "data", "precision"},
    "demo": {"adapters", "models", "parts", "task", "targets", "data", "catalogue"},
    "cli": {
        "adapters",
        "recipe",
        "checks",
        "diagnosis",
        "demo",
        "training",
        "data",
        "parts",
        "task",
        "report",
        "compiles",
    },
    "__main__": {"cli", "recipe", "demo", "data", "parts", "task", "report", "validate"},
}
PUBLIC = set(ARROWS) - {"__main__", "cli", "demo", "catalogue"}
HEAVY = (
    "tensorflow",
    "torch",
    "sklearn",
    "matplotlib",
    "tensorflow_datasets",
    "equinox",
    "grain",
    "tensorboardX",
    "cleanlab",
    "jaxrecipe.catalogue",
)


def modules() -> dict[str, Path]:
    """Every module of the package by dotted name without `jaxrecipe.`; the package itself is ``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, known: set[str], *, at_run_time: bool = False) -> Iterator[str]:
    """Modules that a source imports, inside functions too; `at_run_time` without those for type checkers."""
    tree = ast.parse(source)
    nodes = _at_run_time(tree) if at_run_time else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names if (name := _inside(alias.name)) is not None)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            base = _inside(node.module or "")
            if base is None:
                continue
            below = [f"{base}.{alias.name}".strip(".") for alias in node.names]
            yield from (name if name in known else base for name in below)


def _inside(name: str) -> str | None:
    if name == "jaxrecipe":
        return ""
    return name.removeprefix("jaxrecipe.") if name.startswith("jaxrecipe.") else None


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All statements but those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_run_time(child)


def allowed(module: str) -> set[str]:
    unit = module.partition(".")[0]
    if module == "":
        return PUBLIC
    return ARROWS.get(unit, set()) | {unit}


def wrong_arrows(module: str, imports: set[str]) -> list[str]:
    units = {name.partition(".")[0] for name in imports if name}
    return [f"{module or 'jaxrecipe'} → {unit}" for unit in sorted(units - allowed(module))]


def test_every_unit_has_its_arrows() -> None:
    units = {module.partition(".")[0] for module in modules() if module}
    assert units <= set(ARROWS), (
        f"say in ARROWS what {sorted(units - set(ARROWS))} may import, and in docs/architecture.md"
    )


def test_no_wrong_arrow() -> None:
    known = modules()
    wrong = [
        arrow
        for module, path in known.items()
        for arrow in wrong_arrows(module, set(imported(path.read_text(), set(known))))
    ]
    assert not wrong


def test_the_table_itself_has_no_cycle() -> None:
    TopologicalSorter(ARROWS).prepare()


def test_no_cycle() -> None:
    known = modules()
    graph = {
        module: set(imported(path.read_text(), set(known), at_run_time=True)) - {module}
        for module, path in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def check_of(module: str) -> str | None:
    """The check that a module belongs to, `stage.name`; None for what is no part of one."""
    parts = module.split(".")
    return ".".join(parts[1:3]) if parts[0] == "checks" and len(parts) >= 3 else None


def test_no_check_imports_another() -> None:
    """A check may import its own folder; what several share is a probe. Only the table imports checks."""
    known = modules()
    for module, path in known.items():
        foreign = {
            name
            for name in imported(path.read_text(), set(known))
            if check_of(name) is not None and check_of(name) != check_of(module)
        }
        assert not foreign or module == "checks.table", f"{module} imports {sorted(foreign)}"


def test_nothing_lies_loose_among_the_checks() -> None:
    loose = [module for module in modules() if module.startswith("checks.") and module.count(".") == 1]
    assert sorted(loose) == ["checks.data", "checks.precision", "checks.skeleton", "checks.step", "checks.table"]


def test_each_check_is_the_function_of_its_file_or_folder() -> None:
    from jaxrecipe.checks.table import RECIPE

    for check in RECIPE:
        where = check.run.__module__.removesuffix(".check").split(".")
        assert where[-2:] == [check.stage, check.name]


def test_the_package_never_imports_experiments_or_tests() -> None:
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] in ("experiments", "tests")], module


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trees", "from jaxrecipe.task import Task"),
        ("report.text", "import jaxrecipe.setup"),
        ("task", "def f():\n    from jaxrecipe import recipe"),
        ("checks.data.a", "from jaxrecipe.recipe import check"),
        ("unheard_of", "from jaxrecipe import trees"),
        ("precision.policy", "from jaxrecipe.training.step import make_train_step"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    assert wrong_arrows(module, set(imported(source, set(modules()))))


def test_a_cycle_would_be_found() -> None:
    known = {"a", "b"}
    for source in ("from jaxrecipe import b", "def f():\n    from jaxrecipe import b"):
        graph = {"a": set(imported(source, known, at_run_time=True)), "b": {"a"}}
        with pytest.raises(CycleError):
            TopologicalSorter(graph).prepare()
    assert not set(imported("if TYPE_CHECKING:\n    import jaxrecipe.b", known, at_run_time=True))


def test_importing_the_package_pulls_in_nothing_heavy() -> None:
    code = f"import sys, jaxrecipe; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_says_nothing_and_changes_no_setting() -> None:
    code = "import jax; before = dict(jax.config.values); import jaxrecipe; assert dict(jax.config.values) == before"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout + done.stderr == ""
