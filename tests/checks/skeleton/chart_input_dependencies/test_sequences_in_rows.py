"""Packed texts do not see one another, real positions do not see padding, and metrics leave it out as the loss does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.chart_input_dependencies import chart_input_dependencies
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Status
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Task
from tests.zoo.healthy import cross_entropy, dense, linear, stateless
from tests.zoo.sequences import attend

IDS, WIDTH, LENGTH = 9, 8, 12
RNG = np.random.default_rng(3)


def tagger(mask_of: Any, *, tied: bool = False) -> Model:
    """Embeddings, attention where `mask_of(inputs)` allows it, logits."""

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 5)
        return {
            "embed": 0.5 * jax.random.normal(keys[0], (IDS, WIDTH), jnp.float32),
            **{name: dense(k, WIDTH, WIDTH) for name, k in zip("qkv", keys[1:4], strict=True)},
            "logits": dense(keys[4], WIDTH, IDS),
        }

    def forward(params: Any, inputs: Any) -> Any:
        tokens = inputs["tokens"] if isinstance(inputs, dict) else inputs
        x = params["embed"][tokens]
        x = x + attend(params, x, mask_of(inputs))
        return x @ params["embed"].T if tied else linear(params["logits"], x)

    return stateless(init, forward)


def masked(logits: Any, tokens: Any) -> Any:
    counted = (tokens != 0).astype(jnp.float32)
    return (cross_entropy(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1)


def task(model: Model, inputs: Any, targets: np.ndarray, **fields: Any) -> Task:
    return Task(
        model=model,
        loss=masked,
        optimizer=optax.sgd(0.1),
        train=(inputs, targets),
        target=Tokens(IDS, pad=0),
        batch_size=16,
        **fields,
    )


def padded() -> np.ndarray:
    tokens = RNG.integers(1, IDS, (32, LENGTH)).astype(np.int32)
    return np.where(np.arange(LENGTH) < RNG.integers(5, LENGTH + 1, (32, 1)), tokens, 0).astype(np.int32)


def packed() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two or three texts to a row, and padding."""
    cuts = np.sort(RNG.integers(2, LENGTH - 1, (32, 2)), axis=1)
    place = np.arange(LENGTH)
    segments = 1 + (place >= cuts[:, :1]) + (place >= cuts[:, 1:])
    segments = np.unique(segments, axis=None, return_inverse=True)[1].reshape(segments.shape) + 1
    segments = np.where(place < LENGTH - 1, segments, 0).astype(np.int32)
    tokens = np.where(segments > 0, RNG.integers(1, IDS, segments.shape), 0).astype(np.int32)
    return {"tokens": tokens, "segment_ids": segments}, tokens


def same_segment(inputs: Any) -> Any:
    return inputs["segment_ids"][:, :, None] == inputs["segment_ids"][:, None, :]


def real_segment(inputs: Any) -> Any:
    return (inputs["segment_ids"] > 0)[:, None, :]


def keys_only(tokens: Any) -> Any:
    return (tokens != 0)[:, None, :]


def queries_only(tokens: Any) -> Any:
    return (tokens != 0)[:, :, None]


@pytest.mark.parametrize(("mask", "found"), [(same_segment, ()), (real_segment, ("model/segments-mixed",))])
def test_packed_texts_do_not_see_one_another(run, mask: Any, found: tuple[str, ...]) -> None:
    result = run(chart_input_dependencies, task(tagger(mask), *packed()))
    assert result.codes == found, result.headline
    assert result.status is (Status.FAIL if found else Status.PASS)


def test_two_parts_of_one_example_may_see_each_other(run) -> None:
    inputs, targets = packed()
    parts = {"tokens": inputs["tokens"], "segment_ids": np.minimum(inputs["segment_ids"], 2)}
    result = run(chart_input_dependencies, task(tagger(real_segment), parts, targets))
    assert result.status is Status.WARN


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("mask", "found"), [(keys_only, ()), (queries_only, ("model/padding-seen",))])
def test_real_positions_do_not_see_padding(run, mask: Any, found: tuple[str, ...], tied: bool) -> None:
    tokens = padded()
    result = run(chart_input_dependencies, task(tagger(mask, tied=tied), tokens, tokens))
    assert result.codes == found, result.headline


def test_a_metric_leaves_out_what_the_loss_leaves_out(run) -> None:
    def right(logits: Any, tokens: Any) -> Any:
        return (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32)

    def real(logits: Any, tokens: Any) -> Any:
        counted = (tokens != 0).astype(jnp.float32)
        return (right(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1)

    tokens = padded()
    model = tagger(keys_only)
    everything = task(model, tokens, tokens, metrics={"accuracy": lambda o, t: right(o, t).mean(axis=1)})
    result = run(chart_input_dependencies, everything)
    assert result.status is Status.FAIL
    assert result.codes == ("evaluation/padding-counted",)
    assert run(chart_input_dependencies, everything.replace(metrics={"accuracy": real})).status is Status.PASS
