"""Where an untrained model starts, against numpy, and the final bias that is found by trying."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.probes.starting_point import bias_share, final_biases, starting_point
from jaxrecipe.setup import make_setup
from tests.zoo import broken
from tests.zoo.broken import with_init
from tests.zoo.healthy import binary_task, digits_task, heads_task, regression_task


def test_losses_of_a_squared_error_are_variances_and_biases() -> None:
    setup = make_setup(regression_task(mean=50.0, std=2.0))
    outputs, targets, _ = setup.at_init
    found = starting_point(setup)
    out, wanted = np.asarray(outputs, np.float64), np.asarray(targets, np.float64)
    assert found.loss == pytest.approx(np.square(out - wanted).mean(), rel=1e-4)
    assert found.centered == pytest.approx((out - wanted).var(), rel=1e-2)
    assert found.mean_only == pytest.approx(np.square(out.mean() - wanted).mean(), rel=1e-4)
    assert found.uninformed == pytest.approx(wanted.var(), rel=1e-3)
    assert (found.targets_mean, found.targets_std) == (pytest.approx(wanted.mean()), pytest.approx(wanted.std()))
    assert found.outputs_std == pytest.approx(out.std(axis=0).mean(), rel=1e-4)
    assert found.targets_far_from_zero
    assert not found.targets_far_from_unit_scale


def test_the_inputs_are_standardized_by_trying() -> None:
    large, scaled = (starting_point(make_setup(task)) for task in (broken.inputs_not_scaled(), digits_task()))
    assert large.inputs_size > 3 > scaled.inputs_size
    assert large.inputs_standardized is not None
    assert large.inputs_standardized < 0.2 * large.loss


def test_tokens_have_no_scale() -> None:
    from tests.zoo.healthy import language_model_task

    found = starting_point(make_setup(language_model_task()))
    assert (found.inputs_size, found.inputs_standardized) == (0.0, None)


def test_the_final_bias_is_found_by_trying() -> None:
    assert final_biases(make_setup(digits_task())) == {"": "logits/bias"}
    assert final_biases(make_setup(binary_task())) == {"": "bias"}
    assert final_biases(make_setup(broken.without_final_bias())) == {"": None}
    assert None not in final_biases(make_setup(heads_task())).values()


def test_how_much_is_the_bias_own_doing() -> None:
    assert bias_share(make_setup(broken.wrong_final_bias())) > 0.9
    wild = with_init(digits_task(), lambda p: {**p, "hidden": jax.tree.map(lambda leaf: 8 * leaf, p["hidden"])})
    assert bias_share(make_setup(wild)) == pytest.approx(0.0, abs=1e-6)
    assert jnp.isfinite(bias_share(make_setup(regression_task())))
