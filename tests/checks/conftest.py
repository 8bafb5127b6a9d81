"""Runs one check on one task, as the recipe does."""

from collections.abc import Callable

import pytest

from jaxrecipe.recipe import run_one
from jaxrecipe.report.result import Result
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """`run(check, task, **thresholds) -> Result`."""

    def run_check(check: Callable[..., Result], task: Task, **thresholds: float) -> Result:
        return run_one(make_setup(task), check, thresholds=thresholds)

    return run_check
