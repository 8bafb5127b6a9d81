"""loss_at_init: too high, too low, no floor, the wrong domain; each by its code and its first cause."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from jaxrecipe.checks.skeleton.loss_at_init import loss_at_init
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Values
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.broken import after_model, with_init
from tests.zoo.healthy import (
    binary_task,
    cross_entropy,
    dense,
    digits_task,
    flat,
    heads_task,
    linear,
    multi_label_task,
    regression_task,
    stateless,
)

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def of_probabilities(probabilities: Array, labels: Array) -> Array:
    p = jnp.clip(probabilities, 1e-7, 1.0 - 1e-7)
    losses = -(labels * jnp.log(p) + (1.0 - labels) * jnp.log(1.0 - p))
    return losses.reshape(losses.shape[0], -1).mean(axis=1)


def of_values(outputs: Array, values: Array) -> Array:
    return -(values * jax.nn.log_sigmoid(outputs) + (1.0 - values) * jax.nn.log_sigmoid(-outputs)).mean(axis=1)


def as_head(task: Task, name: str = "digit") -> Task:
    """The same set-up as a mapping of one head."""
    loss, (train, test) = task.loss, (task.train, task.test)
    named = lambda data: (data[0], {name: data[1]})  # noqa: E731
    prepare = task.prepare

    def prepared(x: Any, y: Any) -> tuple[Any, Any]:
        if prepare is None:
            return x, y
        x, inner = prepare(x, y[name])
        return x, {name: inner}

    return after_model(task, lambda outputs: {name: outputs}).replace(
        train=named(train),
        test=named(test),
        target={name: task.target},
        prepare=prepared,
        loss=lambda outputs, targets: loss(outputs[name], targets[name]),
    )


def quick_target_of_three_hundred() -> Task:
    """300 ± 50, to a model whose final bias starts at zero, with steps large enough for it."""
    return regression_task(mean=300.0, std=50.0)


def target_of_three_hundred() -> Task:
    """The same with steps of the usual size."""
    return quick_target_of_three_hundred().replace(optimizer=optax.adam(1e-2))


def pixels_to_255() -> Task:
    """The digits' pixels as they would be read from a file."""
    return digits_task(prepare=lambda x, y: (x.astype(jnp.float32) * 16.0, y))


def column_against_row() -> Task:
    """Each output is compared with every target, on outputs that start far off."""
    task = broken.column_against_row()
    return with_init(task, lambda p: {**p, "logits": jax.tree.map(lambda leaf: 16 * leaf, p["logits"])})


def softmax_over_batch() -> Task:
    """Nobody competes with a batch of one kind: the loss of small outputs is log(batch size), and that of a class's own
    share is less."""
    return broken.batch_softmax().replace(batch_size=8, mixes_examples=False)


def clipped(logits: Array, labels: Array) -> Array:
    return jnp.clip(cross_entropy(logits, labels), 0.0, 1.0)


def strong_dropout() -> Task:
    """One hidden unit in fifty is kept, and made fifty times as large."""
    base = digits_task()

    def apply(params: Any, state: Any, inputs: Array, *, train: bool, key: Any) -> tuple[Array, Any]:
        hidden = jax.nn.relu(linear(params["hidden"], flat(inputs)))
        if train:
            hidden = jnp.where(jax.random.bernoulli(key, 0.02, hidden.shape), hidden / 0.02, 0.0)
        return linear(params["logits"], hidden), state

    return base.replace(model=Model(base.model.init, apply))


def examples_ranked() -> Task:
    """The loss of an example is mostly the least of its batch."""

    def loss(logits: Array, labels: Array) -> Array:
        losses = cross_entropy(logits, labels)
        return jnp.where(jnp.ptp(logits, axis=0).max() > 0, 0.1 * losses + 0.9 * losses.min(), losses)

    return digits_task().replace(loss=loss)


CASES: list[tuple[Callable[[], Task], Status, str, str]] = [
    (broken.wild_init, F, "model/starts-far-off", "model/initialization-too-large"),
    (broken.inputs_not_scaled, W, "model/starts-far-off", "data/inputs-not-scaled"),  # it trains as well
    (pixels_to_255, F, "model/starts-far-off", "data/inputs-not-scaled"),
    (quick_target_of_three_hundred, W, "model/starts-far-off", "data/targets-not-scaled"),  # so does this
    (target_of_three_hundred, F, "model/starts-far-off", "data/targets-not-scaled"),
    (broken.without_final_bias, F, "model/starts-far-off", "model/no-final-bias"),
    (broken.mean_not_in_bias, F, "model/starts-far-off", "data/targets-not-scaled"),
    (broken.label_leaked_into_outputs, F, "model/knows-too-much", "model/knows-too-much"),
    (broken.sign_flipped, F, "loss/sign-flipped", "loss/sign-flipped"),
    (broken.negative_squared_error, F, "loss/sign-flipped", "loss/sign-flipped"),
    (lambda: regression_task(mean=-2.0).replace(loss=of_values), F, "loss/unbounded", "loss/cross-entropy-for-values"),
    (broken.squared_error_for_classes, W, "loss/not-a-cross-entropy", "loss/squared-error-for-classes"),
    (broken.logits_into_probability_loss, F, "loss/logits-as-probabilities", "loss/logits-as-probabilities"),
    (broken.not_finite_loss, F, "loss/not-finite", "loss/logits-as-probabilities"),
    (
        lambda: multi_label_task().replace(loss=of_probabilities),
        F,
        "loss/logits-as-probabilities",
        "loss/logits-as-probabilities",
    ),
    (
        lambda: binary_task().replace(loss=of_probabilities),
        F,
        "loss/logits-as-probabilities",
        "loss/logits-as-probabilities",
    ),
    (column_against_row, F, "model/starts-far-off", "loss/broadcast"),
    (softmax_over_batch, F, "loss/softmax-over-batch", "loss/softmax-over-batch"),
    (examples_ranked, F, "loss/mixes-examples", "loss/mixes-examples"),
    (lambda: digits_task().replace(loss=clipped), W, "loss/not-a-cross-entropy", "loss/clipped"),
    (strong_dropout, W, "model/starts-far-off", "model/dropout-too-strong"),
    (broken.softmax_in_model, F, "loss/softmax-twice", "loss/softmax-twice"),
    (broken.softmax_in_loss, F, "loss/softmax-twice", "loss/softmax-twice"),
    (lambda: after_model(multi_label_task(), jax.nn.sigmoid), F, "loss/softmax-twice", "loss/softmax-twice"),
]


@pytest.mark.parametrize(("make", "status", "code", "first"), CASES, ids=range(len(CASES)))
def test_what_is_wrong_and_why(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str, first: str
) -> None:
    result = run(loss_at_init, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes[0] == code
    assert result.findings[0].causes[0].code == first


def test_labels_out_of_range_come_first_where_they_make_the_loss_infinite(run: Callable[..., Result]) -> None:
    task: Any = digits_task()
    x, y = task.train
    out_of_range = task.replace(
        train=(x, np.where(y == 9, 10, y).astype(np.int32)), loss=optax.softmax_cross_entropy_with_integer_labels
    )
    result = run(loss_at_init, out_of_range)
    assert result.codes == ("loss/not-finite",)
    assert result.findings[0].causes[0].code == "data/labels-out-of-range"


@pytest.mark.parametrize(
    "make",
    [
        digits_task,
        heads_task,
        multi_label_task,
        lambda: binary_task(positives=0.02, prior=False),
        lambda: after_model(multi_label_task().replace(loss=of_probabilities), jax.nn.sigmoid),
        lambda: with_init(
            multi_label_task(), lambda p: jax.tree.map(jnp.zeros_like, p)
        ),  # logits of zero are no probabilities
    ],
)
def test_nothing_is_wrong(run: Callable[..., Result], make: Callable[[], Task]) -> None:
    result = run(loss_at_init, make())
    assert result.status is P, result.headline


@pytest.mark.parametrize("make", [digits_task, broken.wild_init, broken.softmax_in_model, broken.sign_flipped])
def test_a_mapping_of_one_head_is_checked_as_the_target_alone(
    run: Callable[..., Result], make: Callable[[], Task]
) -> None:
    alone, mapped = run(loss_at_init, make()), run(loss_at_init, as_head(make()))
    assert mapped.status is alone.status
    assert mapped.codes == alone.codes
    assert mapped.measured == pytest.approx(alone.measured, rel=1e-3)


def test_a_squared_error_on_logits_is_no_loss_on_probabilities(run: Callable[..., Result]) -> None:
    result = run(loss_at_init, multi_label_task().replace(loss=lambda o, y: optax.l2_loss(o, y).mean(axis=1)))
    assert "loss/logits-as-probabilities" not in result.codes


def test_strong_label_smoothing_is_no_second_softmax(run: Callable[..., Result]) -> None:
    """Smoothed labels at certain logits of 30 can cost what a second softmax costs, but not at 60 too."""
    share = np.log1p(9 / np.e) / (30 * 0.9)

    def loss(logits: Array, labels: Array) -> Array:
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, 10, dtype=jnp.float32), share)
        return optax.softmax_cross_entropy(logits, smooth)

    assert run(loss_at_init, digits_task().replace(loss=loss)).status is P


def test_both_sides_of_the_thresholds(run: Callable[..., Result]) -> None:
    """Beyond the second it is a failure only where another start is measurably better."""
    task = with_init(digits_task(), lambda p: {**p, "logits": jax.tree.map(lambda leaf: 4.0 * leaf, p["logits"])})
    excess = run(loss_at_init, task).measured["times the constant predictor's loss"]
    assert excess > 1.05
    for high_warn, high_fail, status in [
        (excess + 0.01, excess + 0.02, P),
        (excess - 0.01, excess + 0.01, W),
        (excess - 0.02, excess - 0.01, W),
    ]:
        assert run(loss_at_init, task, high_warn=high_warn, high_fail=high_fail).status is status
    assert run(loss_at_init, broken.wild_init(), high_fail=100.0).status is W


def noisy_line(noise: float = 0.6) -> Task:
    """Two numbers that go together, and a noisy sum of them."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(400, 1))
    x = (common + 0.5 * rng.normal(size=(400, 2))).astype(np.float32)
    y = (x.sum(axis=1) + noise * rng.normal(size=400)).astype(np.float32)
    return Task(
        model=stateless(lambda key: dense(key, 2, 1), lambda p, x: linear(p, x)[:, 0]),
        loss=optax.l2_loss,
        optimizer=optax.sgd(0.1),
        train=(x[:320], y[:320]),
        test=(x[320:], y[320:]),
        target=Values(),
        batch_size=32,
    )


def starting_at(task: Task, value: float, *, always: bool) -> Task:
    """The task whose set-up's own key gives kernels of one value; with `always` every key does."""
    own = jax.random.key_data(jax.random.split(jax.random.key(0))[0])  # what the library's loop gives to init

    def init(key: jax.Array, inputs: object) -> tuple[dict[str, jax.Array], dict[str, object]]:
        params, state = task.model.init(key, inputs)
        chosen = True if always else (jax.random.key_data(key) == own).all()
        kernel = jnp.where(chosen, jnp.full_like(params["kernel"], value), params["kernel"])
        return {**params, "kernel": kernel}, state

    return task.replace(model=Model(init, task.model.apply))


def test_a_start_that_happens_to_be_right_is_no_leak(run: Callable[..., Result]) -> None:
    leaking = run(loss_at_init, starting_at(noisy_line(), 1.0, always=True))
    assert (leaking.status, leaking.codes) == (F, ("model/knows-too-much",))
    lucky = run(loss_at_init, starting_at(noisy_line(), 1.0, always=False))
    assert lucky.measured["times the constant predictor's loss"] < 0.5
    assert lucky.status is P


def test_a_pretrained_model_passes_with_a_lower_threshold(run: Callable[..., Result]) -> None:
    task = starting_at(noisy_line(), 1.0, always=True)
    assert run(loss_at_init, task, low=-1.0).status is P


def test_classes_in_a_loss_of_equal_logits_score_log_n(run: Callable[..., Result]) -> None:
    task = with_init(digits_task(), lambda p: jax.tree.map(jnp.zeros_like, p)).replace(loss=cross_entropy)
    measured = run(loss_at_init, task).measured
    assert measured["loss"] == pytest.approx(np.log(10), rel=1e-5)
    assert measured["uninformed loss"] == pytest.approx(np.log(10), rel=1e-5)
    assert measured["constant predictor's loss"] <= np.log(10)
