"""The table mapped over heads: a mapping is treated as its single targets are."""

from collections import OrderedDict
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.targets import (
    Binary,
    Classes,
    TargetTree,
    Tokens,
    Unspecified,
    Values,
    accuracies,
    certain_outputs,
    class_counts,
    default_metrics,
    each_head,
    heads,
    label_entropies,
    uninformed_outputs,
)

LABELS = jnp.array([0, 2, 2], jnp.int32)
LOGITS = jnp.eye(3)
TWO: TargetTree = {"digit": Classes(3), "more": {"ink": Values()}}
TWO_OUTPUTS = {"digit": LOGITS, "more": {"ink": jnp.ones(3)}}
TWO_TARGETS = {"digit": LABELS, "more": {"ink": jnp.array([1.0, 2.0, 3.0])}}


def test_heads_have_paths_and_parts() -> None:
    (only,) = heads(Classes(3), LOGITS, LABELS)
    assert (only.path, only.target) == ("", Classes(3))
    assert only.outputs is LOGITS
    first, second = heads(TWO, TWO_OUTPUTS, TWO_TARGETS)
    assert (first.path, second.path) == ("digit", "more/ink")
    assert second.outputs is TWO_OUTPUTS["more"]["ink"]
    assert heads(TWO, {"digit": LOGITS})[1].outputs is None


@pytest.mark.parametrize("target", [Classes(3), Binary(), Values(), Tokens(3), Unspecified()])
def test_a_mapping_of_one_is_treated_as_the_target_alone(target: Any) -> None:
    logits = jnp.zeros((3, 3)) if isinstance(target, Classes | Tokens) else jnp.zeros(3)
    labels = LABELS if isinstance(target, Classes | Tokens) else jnp.array([0.0, 1.0, 1.0])
    for alone, mapped in [
        (uninformed_outputs(target, logits), uninformed_outputs({"a": target}, {"a": logits})),
        (certain_outputs(target, logits, labels), certain_outputs({"a": target}, {"a": logits}, {"a": labels})),
    ]:
        if alone is None:
            assert mapped is None
        else:
            assert mapped is not None
            np.testing.assert_array_equal(alone, mapped["a"])
    assert list(label_entropies(target, labels).values()) == list(
        label_entropies({"a": target}, {"a": labels}).values()
    )
    assert list(class_counts(target).values()) == list(class_counts({"a": target}).values())


def test_accuracies_are_those_of_the_heads_with_labels() -> None:
    assert accuracies(Classes(3), LOGITS, LABELS) == {"": pytest.approx(2 / 3)}
    assert accuracies(TWO, TWO_OUTPUTS, TWO_TARGETS) == {"digit": pytest.approx(2 / 3)}
    assert accuracies(Values(), jnp.ones(3), jnp.ones(3)) == {}


def test_entropies_and_counts_of_classes_by_path() -> None:
    assert label_entropies(TWO, TWO_TARGETS) == {
        "digit": pytest.approx(-(1 / 3) * np.log(1 / 3) - (2 / 3) * np.log(2 / 3))
    }
    assert class_counts(TWO) == {"digit": 3}


def test_some_heads_may_be_probabilities() -> None:
    outputs = uninformed_outputs(TWO, TWO_OUTPUTS, probabilities=frozenset({"digit"}))
    assert outputs is not None
    np.testing.assert_allclose(outputs["digit"], 1 / 3)
    assert not outputs["more"]["ink"].any()
    certain = certain_outputs(TWO, TWO_OUTPUTS, TWO_TARGETS, probabilities=frozenset({"digit"}))
    assert certain is not None
    assert certain["digit"].tolist() == np.eye(3)[[0, 2, 2]].tolist()


def test_outputs_that_are_not_declared_stay() -> None:
    extra = jnp.full(2, 7.0)
    outputs = each_head(lambda head: head.outputs + 1, {"a": Values()}, {"a": jnp.zeros(2), "b": extra})
    assert outputs is not None
    assert outputs["a"].tolist() == [1.0, 1.0]
    assert outputs["b"] is extra


def test_the_type_of_a_mapping_stays() -> None:
    outputs = OrderedDict(b=jnp.zeros(2), a=jnp.ones(2))
    changed = each_head(lambda head: head.outputs, {"a": Values(), "b": Values()}, outputs)
    assert isinstance(changed, OrderedDict)
    assert list(changed) == ["b", "a"]


@pytest.mark.parametrize("outputs", [{"other": LOGITS}, LOGITS, {"digit": {"deeper": LOGITS}}])
def test_a_tree_of_another_structure_says_nothing(outputs: Any) -> None:
    assert uninformed_outputs({"digit": Classes(3)}, outputs) is None
    assert accuracies({"digit": Classes(3)}, outputs, {"digit": LABELS}) == {}


def test_keys_with_a_slash_are_found() -> None:
    metrics = default_metrics({"a/b": Values()})
    assert metrics["a/b/absolute_error"]({"a/b": jnp.ones(2)}, {"a/b": jnp.zeros(2)}).tolist() == [1.0, 1.0]
