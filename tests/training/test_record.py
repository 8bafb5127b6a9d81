"""What a run does when the loss scale cannot save it: real runs in float16 that overflow on purpose."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.cli.progress import SHOWN
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, static_loss_scale
from jaxrecipe.training.loop import fit
from jaxrecipe.training.record import raise_if_lost, warning_at_floor
from jaxrecipe.training.step import last_bad_path
from jaxrecipe.training.steps import new_state

STEEP = 1e8


def steep(task: Any, **changes: Any) -> Any:
    """The loss is so steep that its gradient does not fit into float16."""
    cross_entropy = task.loss
    return task.replace(
        loss=lambda outputs, targets: jnp.float32(STEEP) * cross_entropy(outputs, targets),
        policy="float16",
        optimizer=optax.sgd(1e-9),
        **changes,
    )


def test_a_floor_above_one_is_warned_of_and_then_raised_at_with_the_name_of_the_layer(make_task: Any) -> None:
    task = steep(make_task(noisy=False), loss_scale=dynamic_loss_scale(init_scale=16.0, min_scale=4.0))
    with (
        pytest.warns(
            RuntimeWarning, match=r"at loss scale 4: gradients/b is not finite\. The scale is at its floor"
        ) as warned,
        pytest.raises(
            FloatingPointError, match=r"6 steps in a row were skipped up to step 6, at loss scale 4: gradients/b is"
        ),
    ):
        fit(task, steps=20, give_up_after=6)
    assert len(warned) == 1


def test_a_floor_below_one_lets_the_same_run_train_and_the_metrics_tell(make_task: Any) -> None:
    task = steep(make_task(noisy=False), loss_scale=dynamic_loss_scale(init_scale=16.0, min_scale=2.0**-20))
    done = fit(task, steps=30)
    skipped = int(done.history["skipped"][-1])
    # Halved from 16 to where a gradient of at most STEEP fits below 65,504: 2**-11 at the lowest.
    assert 10 <= skipped <= 16
    np.testing.assert_array_equal(done.history["skipped"][:skipped], np.arange(1, skipped + 1))
    np.testing.assert_array_equal(done.history["skipped_in_a_row"][skipped:], 0)
    np.testing.assert_array_equal(done.history["loss_scale"][:skipped], 16.0 / 2.0 ** np.arange(1, skipped + 1))
    assert last_bad_path(done.state) == "gradients/b"
    assert done.history["loss"][-1] < done.history["loss"][0]
    assert {"loss_scale", "skipped"} < set(SHOWN)


def test_one_bad_batch_is_survived(make_task: Any) -> None:
    inputs, targets = make_task().train
    inputs = inputs.astype(np.float32) / 255
    inputs[3] = np.inf
    task = make_task(
        noisy=False, train=(inputs, targets), test=None, prepare=None, policy="float16", loss_scale=dynamic_loss_scale()
    )
    done = fit(task, epochs=3)
    assert done.history["skipped"][-1] == 3
    assert done.history["skipped_in_a_row"].max() == 1
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), done.state.params))


def test_a_static_scale_that_is_too_high_is_given_up(make_task: Any) -> None:
    task = steep(make_task(noisy=False), loss_scale=static_loss_scale(4.0))
    with pytest.raises(FloatingPointError, match="8 steps in a row"):
        fit(task, steps=20, give_up_after=8, steps_per_call=4)


def test_an_optimizer_that_breaks_in_half_precision_is_not_taken_for_an_overflow(make_task: Any) -> None:
    task = make_task(noisy=False, policy="params=float16,compute=float16", optimizer=optax.adam(1e-3, eps=1e-16))
    task = task.replace(
        loss_scale=dynamic_loss_scale(), prepare=lambda x, y: (x.astype(jnp.float32).at[:, 2].set(0.0), y)
    )
    with pytest.raises(FloatingPointError, match=r"param_norm nan\. The gradients were finite.*epsilon"):
        fit(task, steps=30)


def test_each_step_of_a_call_counts_and_tells_its_own_scale(make_task: Any) -> None:
    state = new_state(make_task(loss_scale=dynamic_loss_scale(init_scale=8.0, min_scale=2.0)))
    rows = {
        "step": np.array([5, 6, 7, 8]),
        "loss": np.array([np.nan, np.nan, np.nan, 1.0]),
        "grad_norm": np.array([np.nan, np.nan, np.nan, 1.0]),
        "param_norm": np.ones(4),
        "skipped_in_a_row": np.array([1.0, 2.0, 3.0, 0.0]),
        "loss_scale": np.array([4.0, 2.0, 2.0, 2.0]),
        "last_bad": np.array([1.0, 1.0, 0.0, 0.0]),
    }
    with pytest.raises(
        FloatingPointError, match="2 steps in a row were skipped up to step 6, at loss scale 2: gradients/w is"
    ):
        raise_if_lost(rows, state, "dynamic", 2)
    raise_if_lost(rows, state, "dynamic", 4)
    assert "up to step 6" in (warning_at_floor(rows, state) or "")
    assert warning_at_floor({**rows, "loss_scale": rows["loss_scale"] * 2}, state) is None
    assert warning_at_floor(rows, new_state(make_task(loss_scale=static_loss_scale(2.0)))) is None
