"""The project with its own loop: clean as it is, each edit found by the check that is about it, and nothing of it
rewritten."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import jaxrecipe as jr
from experiments.own_loop import project
from experiments.own_loop.checked import BUGS, task, with_bug
from jaxrecipe.data.datasets import digits
from jaxrecipe.report.result import Status

ABOUT_THE_LOOP = ("simplify", "exact_eval", "updates", "mode_consistency", "reference_step", "checkpoint_round_trip")
FOUND = {
    "batch_means": ("exact_eval", "evaluation/mean-of-batch-means"),
    "fresh_momentum": ("reference_step", "step/optimizer-state-lost"),
    "weights_only": ("checkpoint_round_trip", "evaluation/checkpoint-incomplete"),
}


@pytest.fixture(autouse=True)
def promotion_as_users_have_it() -> Iterator[None]:
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_project_does_not_know_that_it_is_checked() -> None:
    tree = ast.parse(Path(project.__file__).read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.startswith(("jaxrecipe", "experiments"))]


@pytest.mark.slow
def test_it_is_clean_as_it_is() -> None:
    report = jr.check(task(), only=ABOUT_THE_LOOP)
    assert {result.status for result in report.results} == {Status.PASS}, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_each_edit_is_found_and_named(bug: str) -> None:
    check, code = FOUND[bug]
    found = jr.check(with_bug(bug), only=ABOUT_THE_LOOP if bug == "fresh_momentum" else [check])
    assert [result.name for result in found.failed] == [check], str(found)
    assert found.by_name[check].codes[0] == code


@pytest.mark.slow
def test_it_learns() -> None:
    (images, labels), (test_images, test_labels) = digits()
    state = project.train(images, labels, steps=300)
    loss, accuracy = project.evaluate(state, project.normalise(test_images), test_labels, 100)
    assert loss < 0.3
    assert accuracy > 0.94
