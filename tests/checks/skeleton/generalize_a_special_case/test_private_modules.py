"""Augmentation, softmax axes and reported losses, one by one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.generalize_a_special_case.augmentation import augmentation_findings
from jaxrecipe.checks.skeleton.generalize_a_special_case.reported_loss import reported_loss
from jaxrecipe.checks.skeleton.generalize_a_special_case.softmax_axis import softmax_findings
from jaxrecipe.parts import Loop
from jaxrecipe.setup import make_setup
from tests.zoo import broken, modes
from tests.zoo import sequences as s
from tests.zoo.healthy import HEALTHY, digits_task, three_parameters_task


def rolled(x: Any) -> Any:
    return jnp.roll(x, 1, axis=0)


@pytest.mark.parametrize(
    ("augment", "code"),
    [
        (None, ""),
        (lambda key, x, y: (-x, y), ""),
        (lambda key, x, y: (rolled(x), rolled(y)), ""),
        (lambda key, x, y: (rolled(x), y), "step/augmentation-misaligns"),
        (lambda key, x, y: (x + 0.1 * rolled(x), y), "step/augmentation-mixes-inputs"),
        (lambda key, x, y: (x + 0.1 * rolled(x), y + 0.1 * rolled(y)), "step/augmentation-mixes-examples"),
    ],
)
def test_what_augment_does_to_other_examples(augment: Any, code: str) -> None:
    setup = make_setup(three_parameters_task().replace(augment=augment))
    assert [one.code for one in augmentation_findings(setup, setup.key)] == ([code] if code else [])


@pytest.mark.parametrize("name", ["digits", "multi_label", "heads", "language_model", "regression", "binary"])
def test_healthy_softmaxes_run_over_the_classes(name: str) -> None:
    setup = make_setup(HEALTHY[name](0))
    assert softmax_findings(setup, setup.key) == []


def test_one_head_of_several_is_found() -> None:
    task = HEALTHY["heads"](0)

    def loss(outputs: Any, targets: Any) -> Any:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs["digit"], axis=0), targets["digit"][:, None], axis=1)
        return -chosen[:, 0] + jnp.square(outputs["ink"] - targets["ink"])

    setup = make_setup(task.replace(loss=loss))
    assert [one.code for one in softmax_findings(setup, setup.key)] == ["loss/softmax-over-batch"]


def test_probabilities_along_time_are_found() -> None:
    setup = make_setup(broken.after_model(s.transformer_task(), lambda x: jax.nn.softmax(x, axis=1)))
    assert [one.code for one in softmax_findings(setup, setup.key)] == ["loss/softmax-over-batch"]


def reporting(factor: Any) -> Any:
    """A loop that reports its mean loss times a factor of the batch size; nothing where it is None."""
    plain = modes.hand_loop(digits_task())
    assert plain.loop is not None
    inner = plain.loop

    def step(state: Any, inputs: Any, targets: Any, key: Any) -> Any:
        state, metrics = inner.step(state, inputs, targets, key)
        return state, {} if factor is None else {"loss": factor(len(targets)) * metrics["loss"]}

    return make_setup(plain.replace(loop=Loop(init=inner.init, step=step, variables=inner.variables)))


@pytest.mark.parametrize(
    ("factor", "ratio", "found"),
    [
        (lambda n: 1.0, 1.0, False),
        (lambda n: n, 32.0, True),
        (lambda n: 0.9 * n, 28.8, True),
        (lambda n: 0.7 * n, 22.4, False),
        (lambda n: 1.4 * n, 44.8, False),
    ],
)
def test_a_sum_is_told_by_the_batch_size(factor: Any, ratio: float, found: bool) -> None:
    setup = reporting(factor)
    measure, finding = reported_loss(setup, setup.key)
    assert measure is not None
    assert measure.value == pytest.approx(ratio, rel=1e-4)
    assert (finding is not None) is found


def test_a_step_that_reports_no_loss_has_none_to_judge() -> None:
    setup = reporting(None)
    assert reported_loss(setup, setup.key) == (None, None)
    small = make_setup(digits_task(batch_size=2))
    assert reported_loss(small, small.key) == (None, None)


def test_the_librarys_own_step_reports_the_mean() -> None:
    setup = make_setup(three_parameters_task())
    measure, finding = reported_loss(setup, setup.key)
    assert measure is not None
    assert np.isclose(measure.value, 1.0)
    assert finding is None
