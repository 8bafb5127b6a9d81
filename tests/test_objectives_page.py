"""The guide to objectives: its snippets make tasks that are valid and take a step."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrecipe as jr
from jaxrecipe.setup import make_setup

PAGE = Path(__file__).resolve().parent.parent / "docs" / "objectives.md"


def test_each_snippet_makes_a_valid_task_that_trains() -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 9
    names: dict[str, Any] = {}
    with jax.numpy_dtype_promotion("standard"):  # the snippets are written as users write theirs
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
            task: jr.Task = names["task"]
            assert [problem for problem in jr.validate(task) if problem.severity == "error"] == []
            setup = make_setup(task)
            state, metrics = setup.step(setup.fresh_state(), *setup.training_batch(0), setup.key)
            assert all(np.isfinite(value) for value in metrics.values())
            moved = jax.tree.map(
                lambda old, new: bool((old != new).any()), setup.params, setup.loop.variables(state)[0]
            )
            assert all(jax.tree.leaves(moved))
