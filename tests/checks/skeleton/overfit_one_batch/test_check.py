"""What a run that does not memorize a few examples is put down to; and runs that are healthy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.parts import Model
from jaxrecipe.recipe import check
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.targets import Classes, Unspecified, Values
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.broken import after_model
from tests.zoo.healthy import (
    cross_entropy,
    dense,
    digits_task,
    flat,
    heads_task,
    language_model_task,
    linear,
    multi_label_task,
    regression_task,
    stateless,
    three_parameters_task,
)
from tests.zoo.modes import hand_loop

Run = Callable[..., Result]


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


def deep_sigmoids() -> Task:
    """Eleven layers, sigmoids between them, small weights: all examples look alike at the end."""

    def init(key: jax.Array) -> dict:
        return {f"layer_{i}": dense(jax.random.fold_in(key, i), 64, 64 if i < 10 else 10) for i in range(11)}

    def forward(params: dict, x: jax.Array) -> jax.Array:
        x = flat(x)
        for i in range(10):
            x = jax.nn.sigmoid(linear(params[f"layer_{i}"], x))
        return linear(params["layer_10"], x)

    return digits_task().replace(model=stateless(init, forward))


def class_numbers() -> Task:
    """Squared error between every logit and the number of the class."""
    return digits_task().replace(
        loss=lambda logits, labels: jnp.square(logits - labels[:, None].astype(jnp.float32)).mean(axis=-1)
    )


def swamped() -> Task:
    return digits_task().replace(optimizer=optax.adamw(2e-3, weight_decay=40.0))


def run_down() -> Task:
    """A cosine decay over 15 steps, where 15 epochs were meant."""
    return digits_task().replace(optimizer=optax.adam(optax.cosine_decay_schedule(1e-3, 15)))


def warming_up() -> Task:
    """A warm-up of 300 steps that is counted in examples."""
    return digits_task().replace(optimizer=optax.adam(optax.linear_schedule(0.0, 2e-3, 300_000)))


def clipped_tight() -> Task:
    return digits_task().replace(optimizer=optax.chain(optax.clip_by_global_norm(1e-6), optax.sgd(0.1)))


def noisy_steps() -> Task:
    """The optimizer adds noise that swamps the gradient; model and loss are sound."""
    return digits_task().replace(optimizer=optax.chain(optax.scale(-1e-3), optax.add_noise(4e-4, 0.0, 0)))


def tanh_on_logits() -> Task:
    return after_model(digits_task(), jnp.tanh)


def softplus_on_values() -> Task:
    return after_model(regression_task(), jax.nn.softplus)


def sigmoid_on_labels() -> Task:
    return after_model(multi_label_task(), jax.nn.sigmoid)


def clipped_loss() -> Task:
    return digits_task().replace(loss=lambda logits, labels: jnp.clip(cross_entropy(logits, labels), 0.0, 0.01))


def drowned() -> Task:
    """Dropout keeps 3 in a hundred units."""
    base = digits_task()

    def apply(params: Any, state: Any, inputs: Array, *, train: bool, key: Any) -> tuple[Array, Any]:
        hidden = jax.nn.relu(linear(params["hidden"], flat(inputs)))
        if train:
            hidden = jnp.where(jax.random.bernoulli(key, 0.03, hidden.shape), hidden / 0.03, 0.0)
        return linear(params["logits"], hidden), state

    return base.replace(model=Model(base.model.init, apply))


def thrown_away() -> Task:
    """A loop of one's own that keeps the old parameters."""
    return hand_loop(digits_task(), apply_updates=False)


def one_value() -> Task:
    """Every kernel starts at one value."""

    def alike(params: dict) -> dict:
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.05) if leaf.ndim > 1 else leaf, params)

    return broken.with_init(digits_task(), alike)


def zeros() -> Task:
    """Every kernel starts at zero."""

    def nothing(params: dict) -> dict:
        return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if leaf.ndim > 1 else leaf, params)

    return broken.with_init(digits_task(), nothing)


def image_ignored() -> Task:
    """The model overwrites its input with zeros."""
    return broken.before_model(digits_task(), jnp.zeros_like)


BROKEN = [
    (one_value, "model/identical-units"),
    (zeros, "model/zero-initialization"),
    (image_ignored, "model/input-ignored"),
    (broken.one_output_softmax, "loss/single-output-softmax"),
    (broken.logits_into_probability_loss, "loss/logits-as-probabilities"),
    (broken.softmax_in_model, "loss/softmax-twice"),
    (broken.softmax_in_loss, "loss/softmax-twice"),
    (sigmoid_on_labels, "loss/softmax-twice"),
    (class_numbers, "loss/squared-error-for-classes"),
    (broken.sign_flipped, "loss/sign-flipped"),
    (clipped_loss, "loss/clipped"),
    (broken.relu_on_logits, "model/outputs-confined"),
    (softplus_on_values, "model/outputs-confined"),
    (deep_sigmoids, "model/saturating-activation"),
    (drowned, "model/dropout-too-strong"),
    (broken.blank_inputs, "data/constant-inputs"),
    (broken.learning_rate_tiny, "optimizer/learning-rate-too-low"),
    (broken.learning_rate_huge, "optimizer/learning-rate-too-high"),
    (swamped, "optimizer/weight-decay-too-strong"),
    (run_down, "optimizer/schedule-run-down"),
    (warming_up, "optimizer/warm-up-too-long"),
    (clipped_tight, "optimizer/clipping-too-tight"),
    (noisy_steps, "optimizer/cause-in-optimizer"),
    (broken.updates_thrown_away, "optimizer/unintended-freeze"),
    (thrown_away, "step/updates-thrown-away"),
]


@pytest.mark.parametrize(("make", "code"), BROKEN, ids=[make.__name__ for make, _ in BROKEN])
def test_the_cause_comes_first(run: Run, make: Callable[[], Task], code: str) -> None:
    result = run(overfit_one_batch, make())
    assert result.status is Status.FAIL, result.headline
    assert result.findings[0].causes[0].code == code, [why.code for why in result.findings[0].causes]
    assert len(result.findings[0].causes) <= 5
    assert any(isinstance(one, Table) for one in result.evidence)


@pytest.mark.parametrize("make", [digits_task, language_model_task], ids=["digits", "language model"])
def test_a_batch_of_one_is_learned_in_turn(run: Run, make: Callable[[], Task]) -> None:
    """With a single example a constant output is perfect, and there would be no gap to close."""
    result = run(overfit_one_batch, make().replace(batch_size=1))
    assert result.status is Status.PASS, f"{result.headline} {result.hint}"


def test_a_batch_of_one_at_too_high_a_rate_is_told_from_a_model_that_cannot_learn(run: Run) -> None:
    """Each step drives out what the others have learned: only the batch is at fault."""
    task = regression_task().replace(batch_size=1, optimizer=optax.sgd(0.3))
    result = run(overfit_one_batch, task, steps=300)
    assert result.status is Status.FAIL
    first = result.findings[0].causes[0].code
    assert first in ("optimizer/batch-too-small", "optimizer/learning-rate-too-high"), first


def test_a_model_that_cannot_express_the_targets_is_not_blamed_on_the_optimizer(run: Run) -> None:
    """All inputs enter as zeros but for a speck: only a constant can be learned."""

    def init(key: jax.Array) -> dict:
        return {"logits": dense(key, 1, 10)}

    def forward(params: dict, x: jax.Array) -> jax.Array:
        return linear(params["logits"], jnp.tanh(flat(x).sum(axis=1, keepdims=True) / 300.0))

    result = run(overfit_one_batch, digits_task().replace(model=stateless(init, forward)), steps=400)
    assert result.status is Status.WARN, "no experiment shows that these inputs allow for more"
    named = [why.code for why in result.findings[0].causes]
    assert "optimizer/cause-in-optimizer" not in named
    assert "model/not-expressive" in named


def test_a_mapping_of_one_target_has_its_accuracy_condition_too(run: Run) -> None:
    """The low loss of a flipped sign comes with wrong predictions, under a mapping as without."""

    def mapped(task: Task) -> Task:
        loss, model = task.loss, task.model

        def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
            outputs, state = model.apply(params, state, inputs, train=train, key=key)
            return {"digit": outputs}, state

        def prepare(x: Any, y: Any) -> tuple[Any, Any]:
            x, y = task.prepare(x, y) if task.prepare else (x, y)
            return x, {"digit": y}

        return task.replace(
            model=Model(model.init, apply),
            loss=lambda outputs, targets: loss(outputs["digit"], targets["digit"]),
            prepare=prepare,
            target={"digit": Classes(10)},
        )

    healthy = run(overfit_one_batch, mapped(digits_task()))
    assert healthy.status is Status.PASS, healthy.headline
    assert healthy.measured["accuracy on the few examples, digit"] == 1.0
    flipped = run(overfit_one_batch, mapped(broken.sign_flipped()))
    assert flipped.codes == ("loss/sign-flipped",)
    assert run(overfit_one_batch, mapped(broken.softmax_in_model())).codes == ("loss/softmax-twice",)


def test_each_head_has_an_accuracy(run: Run) -> None:
    result = run(overfit_one_batch, heads_task())
    assert result.status is Status.PASS
    assert [name for name in result.measured if name.startswith("accuracy")], result.measured


def test_outputs_that_are_bounded_are_a_warning_where_that_may_be_meant(run: Run) -> None:
    """Logits of normalized embeddings are; outputs that cannot be the values that are wanted are a failure (above)."""
    result = run(overfit_one_batch, tanh_on_logits())
    assert result.status is Status.WARN
    assert result.findings[0].causes[0].code == "model/outputs-confined"
    assert run(overfit_one_batch, tanh_on_logits(), closed=0.4).status is Status.PASS
    assert run(overfit_one_batch, broken.softmax_in_model(), nearly=0.1).status is Status.FAIL


def test_noise_that_three_parameters_cannot_hold_is_no_failure(run: Run) -> None:
    assert run(overfit_one_batch, noisy_line()).status is Status.PASS


def test_a_loss_that_is_not_finite_from_the_start_is_told_from_one_that_diverges(run: Run) -> None:
    nan = digits_task().replace(loss=lambda logits, labels: cross_entropy(logits, labels) * jnp.nan)
    assert run(overfit_one_batch, nan).codes == ("loss/not-finite",)
    diverging = regression_task().replace(optimizer=optax.sgd(1e6))
    result = run(overfit_one_batch, diverging)
    assert result.codes == ("optimizer/diverged",)
    assert result.findings[0].causes[0].code == "optimizer/learning-rate-too-high"


def test_the_number_of_steps_is_the_budget(run: Run) -> None:
    result = run(overfit_one_batch, digits_task(), steps=3)
    assert result.measured["steps"] == 3
    assert result.status is Status.WARN, "in three steps nothing else does better"


def test_thresholds_can_be_moved_on_a_finished_report() -> None:
    report = check(three_parameters_task(), only=["overfit_one_batch"], thresholds={"overfit_one_batch": {"steps": 2}})
    assert report.results[0].status is Status.WARN
    reached = report.results[0].measured["fraction of the gap closed"]
    moved = report.with_thresholds({"overfit_one_batch": {"closed": reached - 0.01}})
    assert moved.results[0].status is Status.PASS


def likelihood_with_its_own_spread() -> Task:
    """Mean and log variance of a normal distribution: the likelihood has no floor on few examples."""

    def loss(outputs: Array, values: Array) -> Array:
        return 0.5 * (outputs[:, 1] + jnp.square(values - outputs[:, 0]) * jnp.exp(-outputs[:, 1]))

    def init(key: jax.Array) -> dict:
        return {"hidden": dense(key, 2, 16), "out": dense(jax.random.fold_in(key, 1), 16, 2)}

    model = stateless(init, lambda p, x: linear(p["out"], jnp.tanh(linear(p["hidden"], x))))
    return noisy_line().replace(model=model, loss=loss, target=Unspecified(), optimizer=optax.adam(3e-3))


def targets_drawn_in_augmentation() -> Task:
    """Noise to be removed: without augmentation all targets are zero."""

    def augment(key: jax.Array, x: Array, y: Array) -> tuple[Array, Array]:
        noise = jax.random.normal(key, y.shape, jnp.float32)
        return x + noise, noise

    def init(key: jax.Array) -> dict:
        return {"hidden": dense(key, 2, 32), "out": dense(jax.random.fold_in(key, 1), 32, 2)}

    base = noisy_line()
    x = base.train[0]
    return base.replace(
        model=stateless(init, lambda p, x: linear(p["out"], jax.nn.relu(linear(p["hidden"], x)))),
        loss=lambda outputs, noise: jnp.square(outputs - noise).mean(axis=1),
        optimizer=optax.adam(1e-2),
        train=(x, np.zeros_like(x)),
        test=None,
        augment=augment,
    )


@pytest.mark.parametrize("make", [likelihood_with_its_own_spread, targets_drawn_in_augmentation])
def test_what_free_outputs_could_score_is_no_bound(run: Run, make: Callable[[], Task]) -> None:
    """Where it is not reached and nothing does better, whether it could be is undetermined."""
    result = run(overfit_one_batch, make())
    assert result.status is not Status.FAIL, f"{result.headline} {result.hint}"
    assert result.codes in ((), ("model/does-not-memorize",))
