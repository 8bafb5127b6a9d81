"""Whether a loss reads targets at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.probes.unread_targets import no_baseline, targets_unread
from jaxrecipe.setup import make_setup
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task, regression_task


def ranking() -> Task:
    """The loss of an example is in its outputs alone."""
    task = regression_task()
    return task.replace(loss=lambda out, _: jax.nn.softplus(out[:, 0]), target=Unspecified())


def nothing_left() -> Task:
    """All targets are zero: the residual of an equation."""
    task = regression_task()
    return task.replace(train=(task.train[0], np.zeros_like(task.train[1])))


@pytest.mark.parametrize(
    ("task", "unread"),
    [
        (ranking(), True),
        (nothing_left(), True),
        (regression_task(), False),
        (regression_task().replace(target=Unspecified()), False),
        (
            regression_task().replace(loss=lambda out, _: jnp.square(out[:, 0])),
            False,
        ),  # a bug
        (digits_task().replace(loss=lambda logits, _: jnp.square(logits).sum(axis=1)), False),
    ],
)
def test_only_what_has_nothing_to_predict_has_no_baseline(task: Task, unread: bool) -> None:
    setup = make_setup(task)
    assert targets_unread(setup) is unread
    if unread:
        assert no_baseline(setup)
