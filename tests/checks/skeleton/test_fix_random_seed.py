"""What does not follow from the seed is named; what does passes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.skeleton.fix_random_seed import fix_random_seed
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import digits_task, dropout_task

CASES: list[tuple[Callable[[], Task], tuple[str, ...]]] = [
    (digits_task, ()),
    (dropout_task, ()),
    (lambda: broken.dropout_loop(reuse_key=False), ()),
    (lambda: digits_task(augment=lambda key, x, y: (x + jax.random.normal(key, x.shape), y)), ()),
    (lambda: digits_task(augment=lambda _, x, y: (x, y)), ()),
    (broken.unseeded_init, ("step/initialization-not-reproducible",)),
    (broken.unseeded_data, ("step/data-not-reproducible",)),
    (lambda: broken.dropout_loop(reuse_key=True), ("step/key-reused",)),
    (
        lambda: digits_task(augment=lambda _, x, y: (x + jax.random.normal(jax.random.key(1), x.shape), y)),
        ("step/augmentation-key-reused",),
    ),
]


@pytest.mark.parametrize(("make", "codes"), CASES, ids=range(len(CASES)))
def test_the_codes(run: Callable[..., Result], make: Callable[[], Task], codes: tuple[str, ...]) -> None:
    result = run(fix_random_seed, make())
    assert result.codes == codes
    assert result.status is (Status.FAIL if codes else Status.PASS)
    assert bool(result.measured["parts that differ"]) == any("reproducible" in code for code in codes)


def test_a_loss_that_no_draw_changes_is_not_a_key_used_twice(run: Callable[..., Result]) -> None:
    task = broken.dropout_loop(reuse_key=False)
    flat = task.replace(loss=lambda logits, labels: 0.0 * logits.sum(axis=1) + jnp.float32(1.0))
    assert "step/key-reused" not in run(fix_random_seed, flat).codes
