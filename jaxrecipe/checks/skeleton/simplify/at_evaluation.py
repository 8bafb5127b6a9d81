"""What must be off at evaluation: randomness and augmentation, in prepare, in the model, in predict and in evaluate."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.simplify.numbers import numbers_on_host, relative_distance, spread_of_rows
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.averaged_draws import averages_draws
from jaxrecipe.probes.exact_scores import (
    causes_of_randomness,
    evaluation_under_test,
    explained_by_augmentation,
    scores,
)
from jaxrecipe.probes.first_steps import lightly_trained, random_in_training
from jaxrecipe.probes.randomness import Origin, evaluation_randomness
from jaxrecipe.probes.rounding import ROUNDINGS, model_rounding, relative_rounding
from jaxrecipe.probes.sampled_scores import kind_of, sampled_scores
from jaxrecipe.setup import Setup, Split

PREPARE_TOLERANCE = 1e-5
"""Copies of one example that `prepare` makes are computed alike, so that hardly a rounding may differ."""
AS_FAR = (0.5, 1.5)
"""How far `predict` is from the model, of what augmentation moves it, for augmentation to be the explanation."""
AUGMENTED_DRAWS = 4
"""Draws of the augmentation that `predict` is compared with."""
REPEATED = 0.01
"""The same question asked again must be answered alike: to this share of what an exact score may be off."""
SCORE_SLACK = 2.0
"""Scores may be off by so many times the tolerance of outputs, of mean and spread of the examples."""


class Trained(NamedTuple):
    """What evaluation is asked about: a state, its variables, and examples of a split."""

    state: Any
    variables: tuple[Any, Any]
    split: Split
    examples: Int[np.ndarray, "batch"]


def acting_at_evaluation(setup: Setup, key: PRNGKeyArray, tolerance: float) -> list[Finding]:
    """Each thing that acts at evaluation though it is meant for training."""
    split: Split = "train" if setup.test is None else "test"
    source = setup.train if setup.test is None else setup.test
    index = int(np.random.default_rng([setup.seed, 91]).integers(source.size))
    copies = setup.prepared(split, np.full(setup.batch_size, index))
    floating = [leaf for leaf in jax.tree.leaves(copies) if trees.is_floating(leaf)]
    spread = Measure(
        name="spread of prepared copies of an example",
        value=spread_of_rows(copies),
        high=max((PREPARE_TOLERANCE, *(2 * relative_rounding(leaf.dtype) for leaf in floating))),
    )
    if spread.verdict is not None:
        here = cause("evaluation/augmented", "prepare runs at evaluation too, and draws random numbers.")
        text = "prepare treats copies of one example differently."
        return [failure("evaluation/augmented", text, measures=(spread,), causes=(here,))]
    examples = np.resize(np.random.default_rng([setup.seed, 92]).permutation(source.size), setup.batch_size)
    state = lightly_trained(setup, key)
    trained = Trained(state, trees.copy(setup.loop.variables(state)), split, examples)
    return [
        *_model(setup, copies, key, tolerance),
        *_predict(setup, trained, key, tolerance),
        *_evaluate(setup, trained, key, tolerance),
    ]


def _model(setup: Setup, copies: tuple[Any, Any], key: PRNGKeyArray, tolerance: float) -> Iterator[Finding]:
    """Whether the model in evaluation mode gives copies of an example the same outputs."""
    drawn, within = evaluation_randomness(setup), ROUNDINGS * model_rounding(setup)
    if setup.task.mixes_examples or drawn.accepted:  # what it draws is the affair of mode_consistency
        return
    outputs, _ = setup.forward(*setup.variables, copies[0], train=False, key=None)
    spread = Measure(
        name="spread of the outputs of copies of an example",
        value=spread_of_rows(outputs),
        high=max(tolerance, within),
        thresholds={} if within > tolerance else {"high": "tolerance"},
    )
    if spread.verdict is None or _mixes_examples(setup, tolerance):
        return
    if drawn.origin is Origin.NONE:
        text = "The model in evaluation mode treats copies of one example differently, though it draws no numbers."
        yield failure("model/depends-on-place", text, measures=(spread,))
    else:
        here = "The model draws with a fixed key of its own, whatever train says."
        code = "evaluation/training-mode" if random_in_training(setup, key) else "evaluation/random"
        text = "The model in evaluation mode treats copies of one example differently."
        yield failure(code, text, measures=(spread,), causes=(cause(code, here),))


def _mixes_examples(setup: Setup, tolerance: float) -> bool:
    """Whether other examples' outputs change with the first example, which is another check's business."""
    inputs, _ = setup.batch
    if trees.leading_size(inputs) < 3:
        return False
    changed = jax.tree.map(lambda leaf: leaf.at[0].set(leaf[1]), jax.tree.map(jnp.asarray, inputs))
    first, second = (
        [leaf[1:] for leaf in numbers_on_host(setup.forward(*setup.variables, one, train=False, key=None)[0])]
        for one in (inputs, changed)
    )
    return relative_distance(first, second) > tolerance


def _predict(setup: Setup, trained: Trained, key: PRNGKeyArray, tolerance: float) -> Iterator[Finding]:
    """Whether predict gives the model's outputs on the examples as they are."""
    predict, augment = setup.loop.predict, setup.task.augment
    if predict is None:
        return
    inputs, targets = setup.prepared(trained.split, trained.examples)
    first, second = (numbers_on_host(predict(trees.copy(trained.state), inputs)) for _ in range(2))
    repeated = Measure(
        name="predict asked again",
        value=relative_distance(first, second),
        high=tolerance,
        thresholds={"high": "tolerance"},
    )
    if evaluation_randomness(setup).accepted or averages_draws(setup, setup.fresh_state(), setup.batch[0]):
        return
    if repeated.verdict is not None:
        text = "predict gives other outputs for the same inputs when it is asked again."
        likely = causes_of_randomness(setup, key)
        yield failure(likely[0].code, text, measures=(repeated,), causes=likely)
        return

    def outputs(given: Any) -> list[np.ndarray]:
        return numbers_on_host(setup.forward(*trained.variables, given, train=False, key=None)[0])

    plain = outputs(inputs)
    away = relative_distance(plain, first)
    if away <= tolerance or augment is None:
        return
    draws = [augment(jax.random.fold_in(key, draw), inputs, targets)[0] for draw in range(AUGMENTED_DRAWS)]
    typical = [relative_distance(plain, outputs(one)) for one in draws]
    if AS_FAR[0] * min(typical) <= away <= AS_FAR[1] * max(typical):
        measure = Measure(name="predict beside the model", value=away, high=tolerance, thresholds={"high": "tolerance"})
        text = f"predict is {away:.2g} away from the model on the given examples, as far as augmentation moves it."
        yield failure("evaluation/augmented", text, measures=(measure,))


def _evaluate(setup: Setup, trained: Trained, key: PRNGKeyArray, tolerance: float) -> Iterator[Finding]:
    """Whether evaluate gives the scores of the examples as they are."""
    if setup.loop.evaluate is None:
        return
    evaluate = evaluation_under_test(setup)
    given = (trained.state, trained.split, trained.examples, setup.batch_size)
    said, again = evaluate(*given), evaluate(*given)
    plain = scores(setup, trained.variables, trained.split, trained.examples)
    name = "loss" if "loss" in said else next((one for one in said if one in plain), None)
    if name is None or not np.isfinite(plain[name]).all():
        return
    slack = SCORE_SLACK * tolerance * (abs(float(plain[name].mean())) + float(plain[name].std()))
    repeated = Measure(name=f"{name} asked for again", value=abs(said[name] - again[name]), high=REPEATED * slack)
    if repeated.verdict is not None:
        if evaluation_randomness(setup).accepted:
            return
        sampled = sampled_scores(setup, evaluate, trained.state, trained.split, trained.examples, name)
        if kind_of(sampled, slack) in ("unbiased", "averaged"):
            return  # random, but nothing was left on: the affair of exact_eval
        text = f"evaluate gives {name} {said[name]:.4g} and then {again[name]:.4g} for the same examples."
        likely = causes_of_randomness(setup, key)
        yield failure(likely[0].code, text, measures=(repeated,), causes=likely)
        return
    augmented = explained_by_augmentation(setup, evaluate, trained.state, trained.split, key, SCORE_SLACK * tolerance)
    if augmented is not None:
        yield failure("evaluation/augmented", augmented.message, measures=augmented.measures)
