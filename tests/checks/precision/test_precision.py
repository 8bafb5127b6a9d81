"""The checks of precision: what half precision breaks is found and named, what it does not is left alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.dynamic_scale import DynamicScale

from jaxrecipe.checks.precision.half_precision_updates import half_precision_updates
from jaxrecipe.checks.precision.loss_scale import loss_scale
from jaxrecipe.checks.precision.precision_parity import precision_parity
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, no_loss_scale, static_loss_scale
from jaxrecipe.probes.half_precision import matters, shown_scale
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.checks.precision import half_tasks as half
from tests.zoo.healthy import HEALTHY, digits_task

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP
of16 = partial(half.half, "float16")
tiny = half.weighted(half.TINY)
Case = tuple[Callable[[], Task], Status, str]

PARITY: list[Case] = [
    (digits_task, S, ""),
    (lambda: half.half("bfloat16"), P, ""),
    (of16, P, ""),
    (half.overflowing_norm, F, "activations-overflow"),
    (half.overflowing_layer, F, "activations-overflow"),
    (half.overflowing_loss, F, "activations-overflow"),
    (half.epsilon_of_zero, F, "divides-by-zero"),
    (half.cancelling_variance, F, "inaccurate-layer"),
    (half.far_inputs, F, "inputs-cancel"),
    (lambda: of16(loss=tiny, loss_scale=no_loss_scale()), F, "gradients-underflow"),
    (lambda: of16(loss_scale=static_loss_scale(2.0**24)), F, "gradients-overflow"),
    (half.noise_in_half, W, "random-in-half"),
    (half.fixed_dtype, S, ""),
    (lambda: half.own_loop(digits_task()), P, ""),
    (lambda: half.own_loop(digits_task(), policy="float32"), S, ""),
]
SCALE: list[Case] = [
    (digits_task, S, ""),
    (lambda: digits_task(loss_scale=dynamic_loss_scale()), W, "scale-not-needed"),
    (lambda: half.half("bfloat16"), P, ""),
    (of16, P, ""),
    (lambda: of16(loss=tiny, loss_scale=no_loss_scale()), F, "gradients-underflow"),
    (lambda: of16(loss=half.weighted(2.0**-17), loss_scale=no_loss_scale()), W, "gradients-underflow"),
    (lambda: of16(loss=tiny), P, ""),
    (
        lambda: of16(loss=tiny, loss_scale=dynamic_loss_scale(init_scale=1.0, max_scale=2.0)),
        F,
        "scale-bounded-too-tightly",
    ),
    (lambda: of16(loss=tiny, loss_scale=dynamic_loss_scale(init_scale=1.0)), W, "scale-misplaced"),
    (lambda: of16(loss_scale=static_loss_scale(2.0**24)), F, "gradients-overflow"),
    (lambda: of16(loss_scale=dynamic_loss_scale(init_scale=2.0**24)), P, ""),
    (
        lambda: of16(loss_scale=dynamic_loss_scale(init_scale=2.0**24, min_scale=2.0**24)),
        F,
        "scale-bounded-too-tightly",
    ),
    (half.overflowing_layer, F, "activations-overflow"),
    (lambda: half.own_loop(digits_task(loss=tiny)), F, "gradients-underflow"),
    (lambda: half.own_loop(digits_task(loss=tiny), scale=2.0**20), P, ""),
]
KEPT: list[Case] = [
    (of16, S, ""),
    (lambda: half.kept_in("float16", optax.adam(2e-3, eps=1e-16)), F, "epsilon-vanishes"),
    (lambda: half.own_loop_in_half(optax.adam(2e-3, eps=1e-16)), F, "epsilon-vanishes"),
    (lambda: half.kept_in("float16", optax.sgd(0.1)), P, ""),
    (lambda: half.kept_in("bfloat16", optax.adam(2e-3)), P, ""),
    (lambda: half.kept_in("bfloat16", optax.adam(1e-5)), W, "updates-vanish"),
    (lambda: digits_task(optimizer=optax.adam(2e-3, mu_dtype="bfloat16"), policy="bfloat16"), P, ""),
]


def told(result: Result) -> str:
    return f"{result.headline} {result.hint}"


def first_cause(result: Result) -> str:
    """The likeliest cause of the worst finding, without its area; empty where nothing was found."""
    if not result.findings:
        return ""
    area, _, name = result.findings[0].causes[0].code.partition("/")
    assert area == "precision"
    return name


@pytest.mark.parametrize(("make", "status", "code"), PARITY, ids=range(len(PARITY)))
def test_parity(run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str) -> None:
    result = run(precision_parity, make())
    assert result.status is status, f"{told(result)} {result.measured} {result.evidence}"
    assert first_cause(result) == code


@pytest.mark.parametrize(("make", "status", "code"), SCALE, ids=range(len(SCALE)))
def test_scale(run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str) -> None:
    result = run(loss_scale, make())
    assert result.status is status, f"{told(result)} {result.measured}"
    assert first_cause(result) == code


@pytest.mark.parametrize(("make", "status", "code"), KEPT, ids=range(len(KEPT)))
def test_kept(run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str) -> None:
    result = run(half_precision_updates, make())
    assert result.status is status, f"{told(result)} {result.measured} {result.evidence}"
    assert first_cause(result) == code


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch_norm", "heads", "language_model", "contrastive"])
def test_healthy_set_ups_keep_their_gradients_in_bfloat16(run: Callable[..., Result], name: str) -> None:
    with jax.numpy_dtype_promotion("standard"):  # their own statistics and constants are float32
        result = run(precision_parity, HEALTHY[name](1).replace(policy="bfloat16"))
    assert result.status is P, told(result)


def test_thresholds_move_the_verdict(run: Callable[..., Result]) -> None:
    assert run(precision_parity, of16(), roundings=0.1, beyond_rounding=0.1).status is W
    assert run(precision_parity, of16(), lost=1e-5).status is F


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"params": {"scale": 3.0}}, None),
        ({"opt": (jnp.float32(1.0),), "loss_scale": jnp.float32(64.0)}, 64.0),
        ({"train": {"dynamic_scale": DynamicScale(scale=128.0)}}, 128.0),
        ({"loss_scale": dynamic_loss_scale(init_scale=32.0)}, 32.0),
        ({"scaling": {"counter": jnp.int32(0), "loss_scaling": np.float32(8.0)}}, 8.0),
    ],
)
def test_a_scale_in_the_state_of_a_loop_is_found_by_its_name(state: Any, shown: float | None) -> None:
    assert shown_scale(state) == shown


def test_what_matters_in_a_gradient() -> None:
    """Of 1, 0.1, 1e-3 and 0 the root mean square of the used is 0.58: a hundredth of it is 0.0058."""
    np.testing.assert_array_equal(matters(np.asarray([1.0, -0.1, 1e-3, 0.0])), [True, True, False, False])
    np.testing.assert_array_equal(matters(np.asarray([1e-300, 2e-300])), [True, True])
    assert not matters(np.zeros(3)).any()
