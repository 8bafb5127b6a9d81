"""The page of a check, made from its docstring: what it does, why it matters, what to do, and its thresholds."""

import inspect
import re
import textwrap
from collections.abc import Sequence

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.cli.loading import UsageError

WIDTH = 100
_SECTION = re.compile(r"^(Args|Returns|Raises|Source|Sources):", re.MULTILINE)


def find_check(name: str, checks: Sequence[Check] = RECIPE) -> Check:
    """The check of that name; dashes may stand for underscores.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    wanted = name.replace("-", "_")
    for check in checks:
        if check.name == wanted:
            return check
    raise UsageError(f"no check is called {name!r}; the names are {', '.join(check.name for check in checks)}")


def first_line(check: Check) -> str:
    """What a check is about, in one line."""
    return (inspect.getdoc(check.run) or "").partition("\n")[0]


def explain(check: Check) -> str:
    """The whole page of a check as plain text."""
    doc = inspect.getdoc(check.run) or ""
    prose = doc[: start.start()] if (start := _SECTION.search(doc)) else doc
    source = re.search(r"^Sources?: .*(?:\n(?!\n|\w+:).*)*", doc, re.MULTILINE)
    parts = [f"{check.name} ({check.stage})", *_paragraphs(prose), _thresholds(check, doc)]
    parts += _paragraphs(source.group()) if source else []
    return "\n\n".join(parts)


def listing(checks: Sequence[Check] = RECIPE) -> str:
    """Every check under its stage, one line each."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    stage = None
    for check in checks:
        if check.stage != stage:
            lines += ([""] if stage else []) + [(stage := check.stage)]
        lines.append(f"  {check.name:<{width}}  {first_line(check)}")
    return "\n".join(lines)


def _paragraphs(text: str) -> list[str]:
    return [textwrap.fill(" ".join(part.split()), WIDTH) for part in text.split("\n\n") if part.strip()]


def _thresholds(check: Check, doc: str) -> str:
    """Each threshold with its default and what the docstring says of it."""
    rows = [f"  {name} = {default}" for name, default in check.thresholds.items()]
    if not rows:
        return "Thresholds: none."
    meanings = _arguments(doc)
    width = min(max(map(len, rows)), 32)
    lines = []
    for row, name in zip(rows, check.thresholds, strict=True):
        indent = " " * (width + 2)
        lines.append(
            textwrap.fill(meanings.get(name, ""), WIDTH, initial_indent=f"{row:<{width}}  ", subsequent_indent=indent)
        )
    return "\n".join(
        [f"Thresholds (change one with --threshold {check.name}.NAME=VALUE):", *(x.rstrip() for x in lines)]
    )


def _arguments(doc: str) -> dict[str, str]:
    """The `Args:` section of a docstring by name."""
    _, _, section = doc.partition("\nArgs:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        if entry := re.match(r"^ {4}(\w+(?:, \w+)*): (.*)", line):
            name = entry[1]
            meanings.update(dict.fromkeys(name.split(", "), entry[2]))
        elif name and line.strip():
            meanings.update({each: f"{meanings[each]} {line.strip()}" for each in name.split(", ")})
    return meanings
