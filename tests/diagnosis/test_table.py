"""The table of causes: every row is whole, and every code that the library names is a row."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxrecipe.diagnosis.causes import table
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import CAUSES, cause, causes

PACKAGE = Path(table.__file__).parents[2]
NAMING = {"cause", "causes", "failure", "warning", "Finding", "Measure"}
CODE = re.compile(r"[a-z]+/[a-z][a-z0-9-]*")
LONGEST_TITLE = 90
AREAS = {code.partition("/")[0] for code in CAUSES}


def rows() -> list[Cause]:
    """All rows of all areas, before the table makes them unique."""
    areas = [area for area in vars(table).values() if hasattr(area, "CAUSES") and area is not table]
    return [row for area in areas for row in area.CAUSES]


def test_codes_are_unique() -> None:
    codes = [row.code for row in rows()]
    assert len(codes) == len(set(codes)) == len(CAUSES) >= 150
    titles = [row.title for row in rows()]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.code)
def test_every_row_is_whole(row: Cause) -> None:
    assert CODE.fullmatch(row.code)
    assert not row.here
    assert len(row.title) <= LONGEST_TITLE
    for sentences in (row.title, row.harm, row.fix):
        assert sentences.strip() == sentences
        assert sentences.endswith(".")
        assert "  " not in sentences


def test_an_unknown_code_lists_those_of_its_area() -> None:
    with pytest.raises(ValueError, match=r"no cause has the code 'loss/no-such'.*loss/softmax-twice") as caught:
        cause("loss/no-such")
    assert "data/" not in str(caught.value)
    with pytest.raises(ValueError, match="data/"):
        cause("nothing")


def test_what_points_to_a_cause_leaves_the_table_as_it_is() -> None:
    assert cause("loss/flat", here="In head a.").here == "In head a."
    assert cause("loss/flat") is CAUSES["loss/flat"]
    assert [each.code for each in causes("loss/flat", "loss/broadcast")] == ["loss/flat", "loss/broadcast"]


def named_codes(source: str) -> Iterator[tuple[str, int]]:
    """Codes written in a source where causes and findings are named, and in any string that looks like one of ours."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            if node.value.partition("/")[0] in AREAS:
                yield node.value, node.lineno
        elif isinstance(node, ast.Call) and _name(node.func) in NAMING:
            for value in [*node.args, *(k.value for k in node.keywords if k.arg == "code")]:
                if isinstance(value, ast.Constant) and CODE.fullmatch(str(value.value)):
                    yield str(value.value), value.lineno


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def test_every_code_that_the_library_names_is_in_the_table() -> None:
    unknown = [
        f"{path.relative_to(PACKAGE)}:{line} {code}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for code, line in named_codes(path.read_text())
        if code not in CAUSES
    ]
    assert not unknown


def test_a_code_that_is_not_in_the_table_would_be_found() -> None:
    source = 'failure("mine/x", "m")\nf(code="loss/y")\nx = {"a": "data/z"}\nMeasure(name="n", code="own/w")'
    assert {code for code, _ in named_codes(source)} == {"mine/x", "loss/y", "data/z", "own/w"}
