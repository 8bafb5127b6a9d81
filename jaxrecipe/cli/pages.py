"""The pages of checks and causes: a check's is made from its docstring, a cause's from its row of the table."""

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.cli.finders import checks_that_find, validation_finds
from jaxrecipe.cli.loading import UsageError
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.recipe import suggestion

WIDTH = 100
COSTS = {
    "data": "reads the data",
    "forward": "runs the model, and differentiates it",
    "steps": "takes a few steps of training",
    "training": "trains for a while",
}
"""What a cost in the table means."""
_SECTION = re.compile(r"^(Args|Returns|Raises|Source|Sources):", re.MULTILINE)


def explain(name: str, checks: Sequence[Check] = RECIPE) -> str:
    """The page of the check or of the cause of that name, as plain text; dashes may stand for a check's underscores.

    Raises:
        UsageError: there is none; the message says which may have been meant.
    """
    named = {check.name: check for check in checks}
    if (check := named.get(name.replace("-", "_"))) is not None:
        return check_page(check)
    if name in CAUSES:
        return cause_page(CAUSES[name], checks)
    if "/" in name:
        near = suggestion(name, list(CAUSES)) or suggestion(name.partition("/")[2], list(_by_short_name()))
        raise UsageError(f"no cause has the code {name!r}{near}; jaxrecipe list --causes lists them")
    short = _by_short_name().get(name.replace("_", "-"), [])
    near = f" (did you mean {' or '.join(short)}?)" if short else suggestion(name.replace("-", "_"), list(named))
    raise UsageError(f"no check is called {name!r}{near}; the names are {', '.join(named)}")


def check_page(check: Check) -> str:
    """The whole page of a check: what it does, why it matters, what to do, its thresholds, and what it may name."""
    doc = inspect.getdoc(check.run) or ""
    prose = doc[: start.start()] if (start := _SECTION.search(doc)) else doc
    source = re.search(r"^Sources?: .*(?:\n(?!\n|\w+:).*)*", doc, re.MULTILINE)
    codes = [code for code in CAUSES if check in checks_that_find(code, [check])]
    parts = [f"{check.name} ({check.stage})", *_paragraphs(prose), _thresholds(check, doc)]
    parts += [_filled(f"What it may name: {', '.join(codes)}.")] if codes else []
    parts += [f"At most it {COSTS[check.cost]}." + (" Preview: it may change." if check.stability == "preview" else "")]
    parts += _paragraphs(source.group()) if source else []
    return "\n\n".join(parts)


def cause_page(cause: Cause, checks: Sequence[Check] = RECIPE) -> str:
    """The whole page of a cause: what is wrong, why it does harm, what to do, and which checks can find it."""
    finders = [check.name for check in checks_that_find(cause.code, checks)]
    finders += ["the validation before any check"] if validation_finds(cause.code) else []
    parts = [cause.code, _filled(cause.title), f"Why it does harm: {cause.harm}", f"What to do: {cause.fix}"]
    parts += [f"Found by: {', '.join(finders)}."] if finders else []
    return "\n\n".join(map(_filled, parts))


def listing(checks: Sequence[Check] = RECIPE) -> str:
    """Every check under its stage, one line each, with what it costs at most and whether it may still change."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    stage = None
    for check in checks:
        if check.stage != stage:
            lines += ([""] if stage else []) + [(stage := check.stage)]
        marks = ", ".join([check.cost, *(["preview"] if check.stability == "preview" else [])])
        marks += "" if check.default else ", only when asked for"
        lines.append(f"  {check.name:<{width}}  {marks:<8}  {first_line(check)}")
    meaning = "; ".join(f"{cost}: {words}" for cost, words in COSTS.items())
    return "\n".join([*lines, "", _filled(f"At most a check ... {meaning}.")])


def cause_listing(causes: Mapping[str, Cause] = CAUSES) -> str:
    """Every cause under its area, one line each."""
    width = max(map(len, causes))
    lines: list[str] = []
    area = None
    for code, cause in causes.items():
        if code.partition("/")[0] != area:
            lines += ([""] if area else []) + [(area := code.partition("/")[0])]
        lines.append(f"  {code:<{width}}  {cause.title}")
    return "\n".join(lines)


def first_line(check: Check) -> str:
    """What a check is about, in one line."""
    return (inspect.getdoc(check.run) or "").partition("\n")[0]


def _by_short_name() -> dict[str, list[str]]:
    """The codes of causes by what stands behind their area."""
    codes: dict[str, list[str]] = {}
    for code in CAUSES:
        codes.setdefault(code.partition("/")[2], []).append(code)
    return codes


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_on_hyphens=False)


def _paragraphs(text: str) -> list[str]:
    return [_filled(part) for part in text.split("\n\n") if part.strip()]


def _thresholds(check: Check, doc: str) -> str:
    """Each threshold with its default and what the docstring says of it."""
    rows = [f"  {name} = {default}" for name, default in check.thresholds.items()]
    if not rows:
        return "Thresholds: none."
    meanings = _arguments(doc)
    width = min(max(map(len, rows)), 32)
    lines = [f"Thresholds (change one with --threshold {check.name}.NAME=VALUE):"]
    for row, name in zip(rows, check.thresholds, strict=True):
        indent = " " * (width + 2)
        filled = textwrap.fill(
            meanings.get(name, ""), WIDTH, initial_indent=f"{row:<{width}}  ", subsequent_indent=indent
        )
        lines.append(filled.rstrip() or row)
    return "\n".join(lines)


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
