"""The report that `jr.check` returns: a run that can be printed, saved, shown in a notebook and raised."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxrecipe.report.bounds import with_unit
from jaxrecipe.report.evidence import Scalar
from jaxrecipe.report.files import write_text
from jaxrecipe.report.result import Result
from jaxrecipe.report.run import Run
from jaxrecipe.report.thresholds import judged_again, moves_of_each


class RecipeFailedError(Exception):
    """At least one check failed. The message lists each with its findings and what to do; `report` holds everything.

    Args:
        report: the report with the failed checks.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        head = f"{self.report.task}: {self.report.verdict} (of {len(self.report.results)})"
        return "\n".join([head, *(f"  {line}" for result in self.report.failed for line in failure_lines(result))])


class Report(Run):
    """All results of one run of the recipe. `print` it, `save` it, or let a notebook show it; fields as in `Run`."""

    def raise_if_failed(self) -> None:
        """Do nothing when `ok`.

        Raises:
            RecipeFailedError: if a check failed or crashed; its message lists each with its findings and what to do.
        """
        if not self.ok:
            raise RecipeFailedError(self)

    def with_thresholds(self, thresholds: Mapping[str, Mapping[str, Scalar]]) -> "Report":
        """The same measurements judged by other thresholds, without running anything again.

        A finding goes when the number that it rests on keeps its new bounds, and changes its severity with them; a
        number that leaves its new bounds becomes a finding.

        Args:
            thresholds: `{check: {threshold: value}}`; under "*" for every check that has a threshold of that name.

        Raises:
            ValueError: if a check or a threshold is not in the report, or no measured number has it as its bound, so
                that the check has to be run again; lists all that is wrong.
        """
        moves = moves_of_each(self.results, thresholds)
        return replace(self, results=tuple(judged_again(result, moves[result.name]) for result in self.results))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as a page (.html), as data (.json) or as plain text (.txt), replacing the file in one go.

        Raises:
            ValueError: if the suffix is another one.
            OSError: if the directory does not exist or cannot be written to.
        """
        target = Path(path)
        writers = {".html": self.to_html, ".json": self.to_json, ".txt": self.__str__}
        if (writer := writers.get(target.suffix.lower())) is None:
            raise ValueError(f"Report.save: got {str(target)!r}; the suffix must be one of {', '.join(writers)}")
        write_text(target, writer())

    def to_html(self) -> str:
        """The report as one page that needs nothing else, neither a network nor another file."""
        from jaxrecipe.report.html import page

        return page(self)

    def to_json(self) -> str:
        """All of the report as strict JSON, as report/serial.py says; `from_json` gives it back without loss."""
        from jaxrecipe.report.serial import dumps

        return dumps(self)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote; arrays come back as numpy arrays of the same dtype and shape.

        Raises:
            ValueError: if the text is not such a report.
        """
        from jaxrecipe.report.serial import loads

        return cls(**vars(loads(text)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items() if number)
        return f"Report({self.task!r}: {counts or 'no checks'}, seed {self.seed})"

    def __str__(self) -> str:
        from jaxrecipe.report.text import plain

        return plain(self)

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        from jaxrecipe.report.text import render

        yield render(self, width=options.max_width)

    def _repr_html_(self) -> str:
        from jaxrecipe.report.html import framed

        return framed(self)


def failure_lines(result: Result) -> list[str]:
    """A check that failed in an error message: everything found, the numbers out of bounds, and what to do."""
    lines = [f"{result.status} {result.stage}/{result.name}: {result.headline}"]
    lines += [f"    {finding.severity} {finding.code}: {finding.message}" for finding in result.findings[1:]]
    lines += [
        f"    {measure.name}: measured {with_unit(measure)}, expected {measure.wanted}"
        for measure in result.measures
        if measure.verdict is not None
    ]
    return [*lines, f"    What to do: {result.hint}"] if result.hint else lines
