"""Pages that are made and not written: one for each check, one for each cause, one for each public package.

A hook of mkdocs (`hooks:` in mkdocs.yml). A check's page is its docstring, a cause's its row of the table, so nothing
here can say anything else than the program.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import CAUSES

ROOT = Path(__file__).resolve().parents[2]
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
"""The public packages: what their `__all__` names is public, everything else is private."""


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages."""
    pages = {"index.md": _of_repository("README.md"), "contributing.md": _of_repository("CONTRIBUTING.md")}
    pages |= {f"checks/{row.name}.md": check_page(row) for row in RECIPE}
    pages |= {f"causes/{code}.md": cause_page(row) for code, row in CAUSES.items()}
    pages |= {f"api/{name}.md": api_page(name) for name in PUBLIC}
    pages |= {"checks/index.md": checks_index(), "causes/index.md": causes_index()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What guides link to outside of docs/ is named and not linked, since the site does not hold it."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)


def check_page(row: Check) -> str:
    """A check's page: facts from the table, then its docstring."""
    facts = f"*{row.stage}* · {row.step or 'a step of our own'} · costs at most: {row.cost} · {row.stability}"
    return f"# {row.name}\n\n{facts}\n\n{_as_markdown(inspect.getdoc(row.run) or '')}\n"


def cause_page(row: Cause) -> str:
    """A cause's page: what, why it does harm, what to do."""
    return f"# {row.code}\n\n**{row.title}**\n\n## Why it does harm\n\n{row.harm}\n\n## What to do\n\n{row.fix}\n"


def api_page(name: str) -> str:
    """Everything public of one package."""
    module = importlib.import_module(name)
    members = "\n".join(f"        - {member}" for member in module.__all__)
    summary = (inspect.getdoc(module) or "").partition("\n")[0]
    return (
        f"# {name}\n\n{summary}\n\n::: {name}\n    options:\n      show_root_heading: false\n      "
        f"members:\n{members}\n"
    )


def checks_index() -> str:
    """All checks in their order, under their stages."""
    lines = ["# Checks", ""]
    for stage in dict.fromkeys(row.stage for row in RECIPE):
        lines += [f"## {stage}", "", "| check | what it asks |", "|---|---|"]
        lines += [f"| [{r.name}]({r.name}.md) | {_first_line(r)} |" for r in RECIPE if r.stage == stage] + [""]
    return "\n".join(lines)


def causes_index() -> str:
    """All causes under their areas."""
    lines = ["# Causes", ""]
    for area in dict.fromkeys(code.partition("/")[0] for code in CAUSES):
        lines += [f"## {area}", "", "| code | what is wrong |", "|---|---|"]
        lines += [f"| [{c}]({c}.md) | {row.title} |" for c, row in CAUSES.items() if c.startswith(f"{area}/")] + [""]
    return "\n".join(lines)


def _first_line(row: Check) -> str:
    return (inspect.getdoc(row.run) or "").partition("\n")[0]


def _as_markdown(doc: str) -> str:
    """A docstring with its sections as headings and its arguments as a list."""
    lines = []
    section = ""
    for line in doc.splitlines():
        if match := re.match(r"^(Args|Returns|Raises|Sources?):\s*(.*)$", line):
            section = match[1]
            lines += ["", f"## {'Thresholds and arguments' if section == 'Args' else section}", "", match[2]]
        elif match := re.match(r"^(What it does|Why it matters|What to do):\s*(.*)$", line):
            lines += ["", f"## {match[1]}", "", match[2]]
        elif section == "Args" and (match := re.match(r"^ {4}(\w+(?:, \w+)*): (.*)", line)):
            lines.append(f"- `{match[1]}`: {match[2]}")
        else:
            lines.append(line.strip() if section != "Args" else f"  {line.strip()}")
    return "\n".join(lines)


def _of_repository(name: str) -> str:
    """A file of the repository's root; links into docs/ lead to the pages, others are named only."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace("](docs/", "](").replace("](CONTRIBUTING.md)", "](contributing.md)")
    return re.sub(r"\[([^\]]+)\]\(((?:experiments|tests|jaxrecipe)/[^)]*|LICENSE|NOTICE)\)", r"\1", text)
