"""Which checks can name a cause, read from their sources, so that no list of it can go stale."""

import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxrecipe.checks.table import Check

_CODE = re.compile(r'"([a-z]+/[a-z][a-z0-9-]*)"')
_PROBE = re.compile(r"^from (jaxrecipe\.probes\.[\w.]+) import", re.MULTILINE)


def checks_that_find(code: str, checks: Sequence[Check]) -> list[Check]:
    """The checks that may name a cause: its code stands in their file or folder, or in a probe that they use."""
    return [check for check in checks if code in codes_of(check.run.__module__)]


def validation_finds(code: str) -> bool:
    """Whether the validation of a task may name a cause."""
    folder = Path(__file__).parents[1] / "validate"
    return code in _codes_in("\n".join(map(_read, sorted(folder.glob("*.py")))))


@functools.cache
def codes_of(module: str) -> frozenset[str]:
    """Every code that stands in a check's module, or the folder that is its own, and in the probes it imports."""
    text = "\n".join(map(_read, _files(module)))
    return _codes_in(text).union(*(codes_of(name) for name in _PROBE.findall(text) if name != module))


def _codes_in(text: str) -> frozenset[str]:
    return frozenset(_CODE.findall(text))


@functools.cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _files(module: str) -> list[Path]:
    """The file of a module, or all of its folder where it is the `check.py` of one; none where there is no source."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or not Path(path).is_file():
        return []
    return sorted(Path(path).parent.glob("*.py")) if Path(path).name == "check.py" else [Path(path)]
