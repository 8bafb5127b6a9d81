"""Scores of single examples, against numpy in float64, one example at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.probes.exact_scores import (
    causes_of_randomness,
    common_name,
    evaluation_under_test,
    explained_by_augmentation,
    scores,
)
from jaxrecipe.probes.first_steps import lightly_trained
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task, dropout_task
from tests.zoo.loops import evaluating, loop_with


def rolled(key: Any, inputs: Any, targets: Any) -> Any:
    return jnp.roll(inputs, jax.random.randint(key, (), 2, 6), axis=2), targets


def test_scores_are_those_of_each_example() -> None:
    task = digits_task()
    setup = make_setup(task)
    found = scores(setup, setup.variables, "test", np.arange(40)[::-1])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), setup.params)
    images, labels = (leaf[39::-1] for leaf in task.test)
    for index in range(40):
        pixels = (images[index].reshape(-1).astype(np.float64) - 4.9) / 6.0
        hidden = np.maximum(pixels @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
        logits = hidden @ params["logits"]["kernel"] + params["logits"]["bias"]
        loss = np.log(np.exp(logits).sum()) - logits[labels[index]]
        assert found["loss"][index] == pytest.approx(loss, rel=1e-4)
        assert found["accuracy"][index] == (logits.argmax() == labels[index])


@pytest.mark.parametrize("make", [digits_task, lambda: evaluating(digits_task())])
def test_the_evaluation_is_asked_for_these_examples(make: Any) -> None:
    setup = make_setup(make())
    state, indices = setup.fresh_state(), np.array([5, 3, 3, 70, 1])
    said = evaluation_under_test(setup)(state, "test", indices, 2)
    exact = scores(setup, setup.variables, "test", indices)
    for name in ("loss", "accuracy"):
        assert said[name] == pytest.approx(exact[name].mean(), rel=1e-5)


def test_a_loop_without_evaluation() -> None:
    with pytest.raises(ValueError, match="evaluate"):
        evaluation_under_test(make_setup(loop_with(digits_task())))


@pytest.mark.parametrize(("fault", "seen"), [("", False), ("augments", True)])
def test_augmentation_at_evaluation(fault: str, seen: bool) -> None:
    setup = make_setup(evaluating(digits_task(augment=rolled), fault))
    state = lightly_trained(setup, setup.key)
    found = explained_by_augmentation(setup, evaluation_under_test(setup), state, "test", setup.key, 2e-3)
    assert (found is not None) is seen
    if found is not None:
        assert found.said > found.exact
        assert found.augmented > found.exact


def test_what_makes_an_evaluation_random() -> None:
    for task, first in (
        (digits_task(augment=rolled), "evaluation/augmented"),
        (dropout_task().replace(augment=rolled), "evaluation/random"),
        (digits_task(), "evaluation/random"),
    ):
        setup = make_setup(task)
        assert causes_of_randomness(setup, setup.key)[0].code == first


def test_names() -> None:
    names = ("loss", "test/loss", "eval_acc", "val_accuracy", "AUC")
    assert [common_name(name) for name in names] == ["loss", "loss", "accuracy", "accuracy", "auc"]
