"""Running a user's script as Python itself would: as __main__, with its own arguments and its own search path."""

import ast
import importlib.machinery
import importlib.util
import io
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxrecipe.cli.loading import UsageError
from jaxrecipe.recipe import suggestion

MARK = "__jaxrecipe_watched__"
"""The name, in the script, of what is put around the function that the user named."""
OURS = str(Path(__file__).resolve().parents[1]) + os.sep
KINDS_OF_METHOD = ("staticmethod", "classmethod", "property")


@dataclass(frozen=True)
class Script:
    """A script or a module to be run.

    Attributes:
        path: its file.
        name: the file as it was given, which tracebacks show.
        folder: what is searched for modules first.
        spec: of a module, None of a script.
    """

    path: Path
    name: str
    folder: str
    spec: importlib.machinery.ModuleSpec | None = None


def find_script(target: str, *, module: bool) -> Script:
    """The script at a path, or the module of a name.

    Raises:
        UsageError: there is none.
    """
    if not module:
        path = Path(target)
        path = path / "__main__.py" if path.is_dir() else path
        if not path.is_file():
            raise UsageError(
                f"there is no file {target}; wanted the script that trains, as in: jaxrecipe watch train.py"
            )
        return Script(path.resolve(), str(path), str(path.resolve().parent))
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(target)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{target}.__main__")
    except (ImportError, ValueError) as error:
        raise UsageError(f"there is no module {target}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    if spec is None or spec.origin is None:
        raise UsageError(f"there is no module {target} that can be run; wanted what python -m runs")
    return Script(Path(spec.origin), spec.origin, os.getcwd(), spec)


@contextmanager
def as_main(script: Script, arguments: Sequence[str]) -> Iterator[types.ModuleType]:
    """The script's module as __main__, with its arguments and search path; afterwards all is as it was."""
    before = sys.argv, list(sys.path), sys.modules["__main__"]
    main = types.ModuleType("__main__")
    main.__file__, main.__spec__ = str(script.path), script.spec
    main.__package__ = script.spec.parent if script.spec else None
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", str(script.path))
    vars(main)["__builtins__"] = sys.modules["builtins"]
    started = {"", os.getcwd(), str(Path(sys.argv[0]).resolve().parent)}  # where jaxrecipe itself was started from
    sys.path[:1] = [script.folder] if sys.path and sys.path[0] in started else [script.folder, *sys.path[:1]]
    sys.argv = [script.name, *arguments]
    sys.modules["__main__"] = main
    try:
        yield main
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = before


def execute(script: Script, main: types.ModuleType, step: str | None, mark: Callable[[Any], Any]) -> None:
    """Run the script.

    Args:
        script: to run.
        main: its module.
        step: a function of the script that is to be marked, or None.
        mark: what is put around that function.

    Raises:
        UsageError: there is no such function.
        BaseException: whatever the script raises.
    """
    with io.open_code(str(script.path)) as file:
        source = file.read()
    tree = ast.parse(source, script.name)
    if step is not None:
        vars(main)[MARK] = mark
        tree = marked(tree, step, script.name)
    exec(compile(tree, script.name, "exec", dont_inherit=True), vars(main))


def marked(tree: ast.Module, step: str, where: str) -> ast.Module:
    """The script with a mark around a function, wherever in it that is defined or assigned.

    Raises:
        UsageError: there is none of this name.
    """
    marker = _Marker(step.split("."))
    changed = ast.fix_missing_locations(marker.visit(tree))
    if not marker.found:
        hint = suggestion(step, sorted(marker.names))
        raise UsageError(f"--step: {where} defines no function {step!r}{hint}; of another module: --step module:name")
    return changed


class _Marker(ast.NodeTransformer):
    """Puts a mark around each definition of a name."""

    def __init__(self, path: Sequence[str]) -> None:
        self._path, self._inside = list(path), []
        self.found, self.names = False, set()

    def _wanted(self, name: str) -> bool:
        self.names.add(name)
        here = [*self._inside, name]
        right = here[-len(self._path) :] == self._path
        self.found = self.found or right
        return right

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """A function, perhaps a method."""
        if self._wanted(node.name):
            kinds = [isinstance(one, ast.Name) and one.id in KINDS_OF_METHOD for one in node.decorator_list]
            node.decorator_list.insert(kinds.index(True) + 1 if any(kinds) else 0, ast.Name(MARK, ast.Load()))
        return self._deeper(node, node.name)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """A class, whose methods are named with it."""
        return self._deeper(node, node.name)

    def _deeper(self, node: Any, name: str) -> Any:
        self._inside.append(name)
        self.generic_visit(node)
        self._inside.pop()
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        """A function that is made and given a name, as train_step = jax.jit(step)."""
        for target in node.targets:
            name = (
                target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
            )
            if name and self._wanted(name):
                node.value = ast.Call(ast.Name(MARK, ast.Load()), [node.value], [])
        self.generic_visit(node)
        return node


def own_traceback(error: BaseException, script: Script) -> str:
    """The traceback of what a script raised, without the frames that ran it."""
    told = traceback.TracebackException.from_exception(error)
    names = [frame.filename for frame in told.stack]
    start = names.index(script.name) if script.name in names else len(names)
    told.stack[:] = [frame for frame in told.stack[start:] if not frame.filename.startswith(OURS)]
    return "".join(told.format())
