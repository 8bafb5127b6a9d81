"""Finding the task or the check that `module:name` or `path.py:name` means."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxrecipe.checks.table import Check, as_check
from jaxrecipe.recipe import suggestion
from jaxrecipe.task import Task


class UsageError(Exception):
    """What was asked for cannot be done; the message says what was got, what was wanted and what to do."""


def load_task(spec: str) -> Task:
    """The task at `package.module:name` or `path/to/file.py:name`; a function without arguments is called for it.

    The current directory (or the file's own) is searched for modules first, as Python does for a script.

    Raises:
        UsageError: there is no such module or name, importing or calling it failed, or it is no task.
    """
    found = _load(spec, wanted="package.module:task or path/to/file.py:task, where task is a jr.Task")
    if callable(found) and not isinstance(found, Task):
        found = _guarded(f"calling {spec} without arguments", found)
    if not isinstance(found, Task):
        raise UsageError(
            f"{spec} is {_kind(found)}; wanted a jr.Task, or a function without arguments that returns one"
        )
    return found


def load_check(spec: str) -> Check:
    """The check at `package.module:name` or `path/to/file.py:name`: a function, or a row of the table of checks.

    Raises:
        UsageError: there is no such module or name, importing it failed, or it is no check.
    """
    found = _load(spec, wanted="package.module:check or path/to/file.py:check")
    if not isinstance(found, Check) and not inspect.isfunction(found):
        raise UsageError(
            f"{spec} is {_kind(found)}; wanted a function check(setup, *, key, ...thresholds) -> Result, or a jr.Check"
        )
    return as_check(found)


def _load(spec: str, *, wanted: str) -> Any:
    """What stands at a place."""
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name:
        raise UsageError(f"got {spec!r}; wanted {wanted}")
    is_file = where.endswith(".py")
    module = _guarded(f"importing {where}", lambda: _from_file(Path(where)) if is_file else _from_name(where))
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            hint = suggestion(part, list(vars(found)) if hasattr(found, "__dict__") else [])
            raise UsageError(f"{where} has no {name!r}{hint}; {_known_tasks(module)}")
        found = getattr(found, part)
    return found


def _from_name(name: str) -> ModuleType:
    _search_first(Path.cwd())
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    _search_first(path.resolve().parent)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known  # a task and a check of one file belong to one module
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look their module up by name.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _search_first(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _guarded(doing: str, action: Callable[[], Any]) -> Any:
    """The user's code is run; whatever it raises becomes one message that names the line."""
    try:
        return action()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{doing} failed with {type(error).__name__}: {error}{_place(error)}") from error
    except SystemExit as error:
        raise UsageError(f"{doing} called sys.exit({error.code!r}); guard it with if __name__ == '__main__'") from error


def _place(error: Exception) -> str:
    """The last line of the user's own code that the error passed through, when there is one."""
    library = (str(Path(__file__).resolve().parent), "<frozen", importlib.__file__ or "")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(library)]
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _known_tasks(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Task)]
    return f"tasks there: {', '.join(names)}" if names else "there is no jr.Task in it"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
