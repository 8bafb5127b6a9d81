"""Simplify: what is still switched on, and that nothing that belongs to training acts at evaluation."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.data.batches import steps_per_epoch
from jaxrecipe.probes.exact_scores import as_if_augmented, evaluation_under_test, lightly_trained, scores
from jaxrecipe.probes.recorded_steps import alike, like_params, vector
from jaxrecipe.probes.schedules import clocks, rates, with_clocks
from jaxrecipe.report.result import Curve, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, Split

_result = partial(unsorted_result, name="simplify", stage="skeleton")


def simplify(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    most: int = 4,
    early_epochs: float = 2.0,
    early_steps: int = 1000,
    tolerance: float = 1e-3,
) -> Result:
    """Say what is still switched on; augmentation and dropout act in training only.

    What it does: measures rather than reads what the set-up does beyond the plain model and loss: whether augmentation changes a batch,
    whether the model in training depends on its key, whether the optimizer moves parameters that have no gradient (weight decay), whether an update changes
    with the step count alone (schedule), whether a gradient a thousand times larger is cut (clipping), whether your state holds a lagging copy of the
    parameters, and the precision. Then it asks whether any of it acts at evaluation: copies of one example must come out of `prepare` and of the
    model in evaluation mode alike, and your own `predict` and `evaluate` must give what the model gives on the examples as they are.

    Why it matters: each of these is one more explanation when a result is odd, so in the beginning all of them are off and then come one at a time.
    Augmentation or dropout at evaluation costs accuracy and makes the number noisy.

    What to do: turn off what is listed until the plain model overfits, then bring it back one by one. Apply augmentation to training batches only
    (`Task(augment=...)`), and never in `prepare`, `predict` or `evaluate`.

    Args:
        setup: the set-up.
        key: seeds draws and a few training steps.
        most: WARN when more than so many are on: then no odd result has one explanation any more.
        early_epochs: WARN when the schedule has come down to nothing within so many epochs and `early_steps` steps: then it is counted in epochs.
        early_steps: see `early_epochs`; a longer run may well see its data only once.
        tolerance: how far evaluations may differ, relative to the size of the outputs.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "simplify".
    """
    found, curve, strong = _switched_on(setup, key)
    acting = next(_acting_at_evaluation(setup, key, tolerance), None)
    rows = [(one.name, one.measured) for one in found]
    names = ", ".join(one.name for one in found)
    told = partial(
        _result,
        measured={"switched on": len(found), **{one.name: one.measured for one in found}},
        expected={"switched on": f"up to {most}"},
        evidence=(
            Table(title="Switched on", columns=("what", "measured"), rows=rows),
            *([curve] if curve is not None else []),
        ),
    )
    if acting is not None:
        return told(status=Status.FAIL, finding=acting.finding, hint=acting.hint)
    odd = _ends_early(setup, curve, early_epochs, early_steps) or strong
    if odd is not None:
        return told(status=Status.WARN, finding=odd.finding, hint=odd.hint)
    if len(found) > most:
        return told(
            status=Status.WARN,
            finding=f"{len(found)} things are switched on at once: {names}.",
            hint="Turn them off until the plain model overfits, then bring them back one at a time, and look at each.",
        )
    finding = (
        f"Still switched on: {names}; none of it acts at evaluation." if found else "Nothing fancy is switched on."
    )
    return told(status=Status.PASS, finding=finding)


class On(NamedTuple):
    """One thing that is switched on, and by how much."""

    name: str
    measured: str


class Fault(NamedTuple):
    """Something that is wrong."""

    finding: str
    hint: str


def _switched_on(setup: Setup, key: PRNGKeyArray) -> tuple[list[On], Curve | None, Fault | None]:
    """Everything that is on, the learning rate over the steps where that changes, and what is on so strongly that nothing else counts."""
    noise, decay = _noise(setup, key), 0.0
    found = [*_augmentation(setup), *([On("dropout or other noise", f"{noise:.0%} of the outputs")] if noise else [])]
    params, model_state = setup.variables
    inputs, targets = setup.batch
    _, gradients = setup.gradients(params, model_state, inputs, targets, key=key)
    if not np.isfinite(vector(gradients)).all():
        gradients = jax.tree.map(jnp.ones_like, gradients)
    schedule = _schedule(setup, gradients)
    found += _described_schedule(schedule)
    peak = 0 if schedule is None else int(schedule.x[np.argmax(schedule.series["learning rate"])])
    moved, pulled, inwards = _without_gradient(setup, gradients, peak)
    if pulled > 0:
        decay = pulled / max(moved, 1e-30) if inwards else 0.0
        name = "weight decay" if inwards else "updates without gradient"
        size = pulled / max(float(np.linalg.norm(vector(params))), 1e-30)
        found.append(On(name, f"{size:.2g} of the parameters a step at the peak of the learning rate"))
    found += _clipping(setup, gradients)
    found += _average(setup, key)
    if setup.task.precision.casts:
        found.append(On("reduced precision", str(np.dtype(setup.task.precision.compute_dtype))))
    if setup.task.loss_scale.kind != "none":
        found.append(On("loss scale", setup.task.loss_scale.kind))
    return found, schedule, _too_strong(noise, decay)


NOISE_SHARE = 0.9
"""More than this share of the outputs' power may not be noise: a dropout of one half after each of three layers makes 0.87."""


def _too_strong(noise: float, decay: float) -> Fault | None:
    """Noise that drowns the signal, or a decay that undoes every step."""
    if noise > NOISE_SHARE:
        return Fault(
            f"{noise:.0%} of what the model gives in training is noise: two draws have hardly anything in common.",
            "The dropout is far too strong: look whether a share to keep was given where the share to drop is wanted. A model that draws noise "
            "on purpose (a variational or diffusion model) may say so with expect.",
        )
    if decay > 2:  # at a minimum, where a pretrained model may start, the two balance
        return Fault(
            f"Weight decay pulls the parameters back {decay:.2g} times as far in a step as the gradient of the untrained model moves them.",
            "The weight decay swamps the loss: make it smaller (1e-4 to 1e-1 for optax.adamw, 1e-5 to 1e-3 beside SGD), or look whether it is "
            "multiplied by the learning rate.",
        )
    return None


def _augmentation(setup: Setup) -> Iterator[On]:
    if setup.task.augment is None:
        return
    plain = _host(setup.batch)
    augmented = _host(setup.task.augment(setup.key, *setup.batch))
    changed = [not np.array_equal(a, b, equal_nan=True) for a, b in zip(plain, augmented, strict=True)]
    if any(changed):
        size = _distance(plain, augmented)
        yield On("augmentation", f"moves a batch by {size:.2g} of its size")


def _noise(setup: Setup, key: PRNGKeyArray) -> float:
    """Share of the outputs' power in training that is not the same in two draws."""
    inputs, _ = setup.batch
    keys = [jax.random.fold_in(key, draw) for draw in range(2)]
    first, second = (_host(setup.forward(*setup.variables, inputs, train=True, key=one)[0]) for one in keys)
    apart = sum(float(np.square(np.nan_to_num(a - b)).sum()) for a, b in zip(first, second, strict=True))
    power = sum(float(np.square(np.nan_to_num(leaf)).sum()) for leaf in (*first, *second))
    return min(apart / power, 1.0) if power else 0.0


def _schedule(setup: Setup, gradients: Any) -> Curve | None:
    """The learning rate relative to its peak, over a fine grid in the first epochs and a coarse one after."""
    epoch = steps_per_epoch(setup.train.size, setup.batch_size)
    grid = np.unique(
        np.concatenate([np.linspace(1, 2 * epoch, 33), np.geomspace(1, max(200 * epoch, 20_000), 65)])
        .astype(np.int64)
        .clip(1, 2**30)
    )
    sizes = rates(setup.task.optimizer, setup.params, gradients, grid)
    if sizes is None or not np.isfinite(sizes).all() or np.ptp(sizes) <= 1e-5 * sizes.max():
        return None
    return Curve(title="Learning rate, of its peak", x=grid, series={"learning rate": sizes / sizes.max()})


def _described_schedule(curve: Curve | None) -> Iterator[On]:
    if curve is None:
        return
    rate, steps = curve.series["learning rate"], curve.x
    peak = int(np.argmax(rate))
    rises = (
        f"{rate[0]:.0%} of its peak at first, the peak near step {steps[peak]}"
        if rate[0] < 0.999
        else "highest at first"
    )
    yield On("learning-rate schedule", f"{rises}, {rate[-1]:.2g} of it near step {steps[-1]}")


def _without_gradient(setup: Setup, gradients: Any, count: int) -> tuple[float, float, bool]:
    """How far a first update goes because of its gradient, how far without any, and whether that points to zero; at this count."""
    params, optimizer = setup.params, setup.task.optimizer

    @jax.jit
    def update(params: Any, gradients: Any, share: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            state = optimizer.init(params)
            state = with_clocks(state, clocks(state), count)
            return optimizer.update(jax.tree.map(lambda leaf: leaf * share, gradients), state, params)[0]

    moved, pulled = (vector(update(params, gradients, np.float32(share))) for share in (1, 0))
    weights = vector(params)
    if not np.isfinite(pulled).all():
        return 0.0, 0.0, False
    lengths = float(np.linalg.norm(pulled)), float(np.linalg.norm(weights))
    inwards = float(-(pulled @ weights)) > 0.5 * lengths[0] * lengths[1]
    return float(np.linalg.norm(moved - pulled)), lengths[0], inwards


def _clipping(setup: Setup, gradients: Any) -> Iterator[On]:
    """A second gradient of any size is cut to the size of the first, although small ones are not."""
    params, optimizer = setup.params, setup.task.optimizer

    @jax.jit
    def second(gradients: Any, params: Any, one: Any, two: Any) -> Any:
        scaled = [jax.tree.map(lambda leaf, by=by: leaf * by, gradients) for by in (one, two)]
        with jax.numpy_dtype_promotion("standard"):
            _, state = optimizer.update(scaled[0], optimizer.init(params), params)
            updates, _ = optimizer.update(scaled[1], state, params)
        return trees.global_norm(updates)

    def ratio(one: float, two: float) -> float:
        sizes = [float(second(gradients, params, np.float32(one), np.float32(by))) for by in (two, one)]
        return sizes[0] / sizes[1] if sizes[1] else 1.0

    norm = float(np.linalg.norm(vector(gradients))) or 1.0
    large, small = ratio(1e3 / norm, 1e6 / norm), ratio(1e-3 / norm, 1e-2 / norm)
    if abs(large - 1) < 1e-3 and abs(small - 1) > 1e-2:
        yield On("gradient clipping", "a gradient a thousand times larger gives the same update")


def _average(setup: Setup, key: PRNGKeyArray) -> Iterator[On]:
    """A copy of the parameters in the state that lags behind them."""
    if not setup.owns_loop:
        return
    start = vector(setup.params)
    places = like_params(setup)
    if len(places) < 2:
        return
    state = lightly_trained(setup, key)
    params = setup.loop.variables(state)[0]
    found = jax.tree.leaves(state, is_leaf=partial(alike, params))
    moved = {place: float(np.linalg.norm(vector(found[index]) - start)) for index, place in places}
    farthest = max(moved.values())
    for place, size in moved.items():
        if 0 < size < 0.95 * farthest:
            yield On("averaged parameters", f"{place} has moved {size / farthest:.0%} as far as the parameters")


def _ends_early(setup: Setup, curve: Curve | None, epochs: float, steps: int) -> Fault | None:
    """A schedule that has ended, or not begun, by the end of the first epochs, or whose warm-up does not end."""
    if curve is None:
        return None
    epoch = steps_per_epoch(setup.train.size, setup.batch_size)
    rate, grid = curve.series["learning rate"], curve.x
    advice = "It looks counted in epochs: optax schedules are asked at every update, so give their lengths in steps (epochs * steps_per_epoch)."
    small = np.flatnonzero(rate > 0.01)
    last = int(grid[small[-1]])
    if small[-1] < len(grid) - 1 and last < min(epochs * epoch, steps) and rate[small[-1] + 1 :].max() <= 0.01:
        return Fault(
            f"The learning rate is below 1 % of its peak from step {last + 1} or soon after, and an epoch has {epoch} steps.",
            advice,
        )
    if epoch > 1 and rate[grid < epoch].max() < 1e-3:
        return Fault(
            f"The learning rate is below 0.1 % of its peak for the whole first epoch of {epoch} steps.", advice
        )
    late = max(20 * epoch, 2 * steps)
    if grid[np.argmax(rate)] > late and rate[grid <= late].max() < 0.5:
        return Fault(
            f"The learning rate is still rising after {late} steps, {late // epoch} epochs.",
            "The warm-up is far too long: it looks counted in examples, or multiplied by the steps of an epoch twice. optax schedules count updates.",
        )
    return None


# What must be off at evaluation


def _acting_at_evaluation(setup: Setup, key: PRNGKeyArray, tolerance: float) -> Iterator[Fault]:
    """Each thing that acts at evaluation though it is meant for training."""
    split: Split = "train" if setup.test is None else "test"
    source = setup.train if setup.test is None else setup.test
    index = int(np.random.default_rng([setup.seed, 91]).integers(source.size))
    copies = setup.prepared(split, np.full(setup.batch_size, index))
    if _rows_differ(copies, 1e-5):
        yield Fault(
            "prepare treats copies of one example differently.",
            "prepare runs at evaluation too and must be deterministic: what draws random numbers belongs in augment, which runs in training only.",
        )
        return
    if not setup.task.mixes_examples:
        outputs, _ = setup.forward(*setup.variables, copies[0], train=False, key=None)
        if _rows_differ(outputs, tolerance) and not _mixes(setup, tolerance):
            yield Fault("The model in evaluation mode treats copies of one example differently.", NOISE)
    if not setup.owns_loop:
        return
    state = lightly_trained(setup, key)
    examples = np.resize(np.random.default_rng([setup.seed, 92]).permutation(source.size), setup.batch_size)
    if setup.loop.predict is not None:
        yield from _predict(setup, state, split, examples, key, tolerance)
    if setup.loop.evaluate is not None:
        yield from _evaluate(setup, state, split, examples, key, tolerance)


NOISE = "Something random with a fixed key (dropout, augmentation inside the model) is on at evaluation: do it only when train is True."
RANDOM = "Dropout or augmentation is on at evaluation: run the model with train=False (deterministic=True) on the examples as they are."
AUGMENTED = (
    "Augmentation acts at evaluation: apply it to training batches only, not to what predict and evaluate are given."
)


def _mixes(setup: Setup, tolerance: float) -> bool:
    """Whether other examples' outputs change with the first example (another check's business)."""
    inputs, _ = setup.batch
    if trees.leading_size(inputs) < 3:
        return False
    changed = jax.tree.map(lambda leaf: leaf.at[0].set(leaf[1]), jax.tree.map(jnp.asarray, inputs))
    first, second = (_host(setup.forward(*setup.variables, one, train=False, key=None)[0]) for one in (inputs, changed))
    return _distance([leaf[1:] for leaf in first], [leaf[1:] for leaf in second]) > tolerance


def _predict(
    setup: Setup, state: Any, split: Split, examples: np.ndarray, key: PRNGKeyArray, tolerance: float
) -> Iterator[Fault]:
    """Whether predict gives the model's outputs on the examples as they are."""
    predict = setup.loop.predict
    if predict is None:
        return
    inputs, targets = setup.prepared(split, examples)
    first, second = (_host(predict(trees.copy(state), inputs)) for _ in range(2))
    if _distance(first, second) > tolerance:
        yield Fault("predict gives other outputs for the same inputs when it is asked again.", RANDOM)
        return
    variables: tuple[Any, Any] = trees.copy(setup.loop.variables(state))
    plain = _host(setup.forward(*variables, inputs, train=False, key=None)[0])
    away = _distance(plain, first)
    if away <= tolerance or setup.task.augment is None:
        return
    draws = []
    for draw in range(4):
        augmented, _ = setup.task.augment(jax.random.fold_in(key, draw), inputs, targets)
        draws.append(_host(setup.forward(*variables, augmented, train=False, key=None)[0]))
    typical = [_distance(plain, one) for one in draws]
    if 0.5 * min(typical) <= away <= 1.5 * max(typical):
        yield Fault(
            f"predict is {away:.2g} away from the model on the given examples, as far as augmentation moves it.",
            AUGMENTED,
        )


def _evaluate(
    setup: Setup, state: Any, split: Split, examples: np.ndarray, key: PRNGKeyArray, tolerance: float
) -> Iterator[Fault]:
    """Whether evaluate gives the scores of the examples as they are."""
    evaluate, _ = evaluation_under_test(setup)
    said, again = (evaluate(state, split, examples, setup.batch_size) for _ in range(2))
    variables: tuple[Any, Any] = trees.copy(setup.loop.variables(state))
    plain = scores(setup, variables, split, examples)
    name = "loss" if "loss" in said else next((one for one in said if one in plain), None)
    if name is None:
        return
    exact, spread = float(plain[name].mean()), float(plain[name].std())
    slack = 2 * tolerance * (abs(exact) + spread)
    if abs(said[name] - again[name]) > 0.01 * slack:
        yield Fault(f"evaluate gives {name} {said[name]:.4g} and then {again[name]:.4g} for the same examples.", RANDOM)
        return
    told = as_if_augmented(setup, evaluate, state, split, key, 2 * tolerance)
    if told:
        yield Fault(told, AUGMENTED)


def _host(tree: Any) -> list[np.ndarray]:
    """Every leaf as float64 on the host; keys and the like are left out."""
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, np.number)]


def _distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Norm of the difference as a share of the first one's norm; NaN equals NaN."""
    away = sum(float(np.square(np.nan_to_num(a - b)).sum()) for a, b in zip(first, second, strict=True))
    size = sum(float(np.square(np.nan_to_num(a)).sum()) for a in first)
    return float(np.sqrt(away / max(size, 1e-24)))


def _rows_differ(tree: Any, tolerance: float) -> bool:
    """Whether the entries along the first axis differ anywhere, relative to the size of the leaf."""
    for leaf in _host(tree):
        if leaf.ndim and len(leaf) > 1:
            apart = np.abs(np.nan_to_num(leaf - leaf[:1])).max(initial=0.0)
            if apart > tolerance * max(float(np.abs(np.nan_to_num(leaf)).max(initial=0.0)), 1e-12):
                return True
    return False
