"""Why steps are small: told by what the optimizer does with other gradients and counts."""

import optax
import pytest

from jaxrecipe.probes.small_steps import clips_every_gradient, peak_of_schedule, reasons_for_small_steps
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import three_parameters_task

LOW, CLIP, WARM, DOWN = (
    "optimizer/learning-rate-too-low",
    "optimizer/clipping-too-tight",
    "optimizer/warm-up-too-long",
    "optimizer/schedule-run-down",
)


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (optax.adam(1e-8), LOW),
        (optax.sgd(1e-8), LOW),
        (optax.lion(1e-8), LOW),
        (optax.chain(optax.clip_by_global_norm(10.0), optax.sgd(1e-8)), LOW),
        (optax.chain(optax.clip_by_global_norm(1e-6), optax.sgd(0.1)), CLIP),
        (optax.sgd(optax.linear_schedule(0.0, 0.1, 10**5)), WARM),
        (optax.sgd(optax.linear_schedule(0.1, 1e-6, 10)), DOWN),
    ],
)
def test_the_likeliest_reason(optimizer: optax.GradientTransformation, first: str) -> None:
    setup = make_setup(three_parameters_task().replace(optimizer=optimizer))
    reasons = reasons_for_small_steps(setup, setup.key, 20)
    assert reasons[0] == first
    assert LOW in reasons
    assert len(set(reasons)) == len(reasons)
    assert clips_every_gradient(setup, setup.key) is (first == CLIP)


def test_the_peak_of_a_schedule() -> None:
    setup = make_setup(three_parameters_task().replace(optimizer=optax.sgd(optax.linear_schedule(0.1, 0.0, 10))))
    assert peak_of_schedule(setup, setup.key, 5) == (1, pytest.approx(0.09 / 0.05, rel=1e-4))
    ended = peak_of_schedule(setup, setup.key, 10)
    assert ended is not None
    assert ended[1] > 1e6
    plain = make_setup(three_parameters_task().replace(optimizer=optax.sgd(0.1)))
    assert peak_of_schedule(plain, plain.key, 5) is None
