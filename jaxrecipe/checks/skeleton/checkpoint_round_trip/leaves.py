"""The leaves of a state that was saved beside those that came back, and what each of them is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.setup import Setup

CONSEQUENCES = {
    "parameters": "the model itself is not restored",
    "model state (batch statistics)": "evaluation uses initial statistics after a restart",
    "optimizer state": "momentum starts from zero and the schedule from its beginning",
    "step counter": "schedules, data order and everything folded by the step start again",
    "random key": "dropout and augmentation draw something else, or the same as before, after a restart",
    "loss scale": "it is found anew, by skipped steps",
    "averaged parameters": "the average starts anew",
    "rest of the state": "what it is for starts anew",
}
"""What a leaf belongs to, and what it means to lose it."""
OPTIMIZER_WORDS = ("mu", "nu", "trace", "count", "momentum", "tx")
AVERAGE_WORDS = ("ema", "average", "shadow")
KEY_WORDS = ("rng", "key", "seed")


class Leaf(NamedTuple):
    """One leaf of a state.

    Attributes:
        path: where it is.
        part: what it belongs to, a key of `CONSEQUENCES`.
        difference: what is wrong with it, in words; empty if nothing.
        same_value: whether at most its type differs.
        other_type: whether its dtype is another one.
        untouched: whether what came back is the template's.
    """

    path: str
    part: str
    difference: str
    same_value: bool
    other_type: bool
    untouched: bool


def compare_leaves(setup: Setup, state: Any, restored: Any, template: Any) -> list[Leaf]:
    """Every leaf of what was saved beside what came back; both have one structure."""
    saved, back, fresh = (trees.named_leaves(tree) for tree in (state, restored, template))
    parts = _parts(setup, state)
    return [
        Leaf(
            path=path,
            part=parts[path],
            difference=_difference(leaf, back[path]),
            same_value=_same_value(on_host(leaf), on_host(back[path])),
            other_type=_other_type(leaf, back[path]),
            untouched=path in fresh and not _difference(fresh[path], back[path]),
        )
        for path, leaf in saved.items()
    ]


def differing_leaves(left: Any, right: Any) -> int:
    """How many leaves of two states differ in any bit."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum(on_host(a).tobytes() != on_host(b).tobytes() for a, b in pairs)


def on_host(leaf: Any) -> np.ndarray:
    """A leaf on the host; a typed key as the numbers that it holds."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def in_own_memory(leaf: Any) -> Any:
    """The leaf in memory of its own, as the directory that it may be mapped from goes; its dtype as it came.

    A JAX array is also made free to be on any device, as a fresh one is, or the step would compile anew for it.
    """
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        data = jax.device_put(np.array(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array):
        return jax.device_put(np.array(leaf)) if leaf.is_fully_addressable else leaf
    return np.array(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def _is_key(leaf: Any) -> bool:
    return trees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _same_value(left: np.ndarray, right: np.ndarray) -> bool:
    if left.shape != right.shape:
        return False
    comparable = all(jnp.issubdtype(one.dtype, np.number) or one.dtype == bool for one in (left, right))
    return left.tobytes() == right.tobytes() or (comparable and bool(np.all(left == right)))


def _other_type(saved: Any, restored: Any) -> bool:
    """Whether the dtype differs; Python numbers and arrays of their dtype count as different."""
    return trees.is_array(saved) and getattr(restored, "dtype", None) != saved.dtype


def _difference(saved: Any, restored: Any) -> str:
    """In words how a leaf differs, empty when it does not."""
    if _other_type(saved, restored):
        return f"{saved.dtype} came back as {getattr(restored, 'dtype', type(restored).__name__)}"
    left, right = on_host(saved), on_host(restored)
    if left.shape != right.shape:
        return f"shape {list(left.shape)} came back as {list(right.shape)}"
    if left.tobytes() == right.tobytes():
        return ""
    if left.size == 1:
        return f"{left!s} came back as {right!s}"
    return f"{int((left != right).sum())} of {left.size} numbers"


def _parts(setup: Setup, state: Any) -> dict[str, str]:
    """What each leaf of a state is, by where `variables` finds it, by its dtype and by its name."""
    params, model_state = setup.loop.variables(state)
    known = {id(leaf): "parameters" for leaf in jax.tree.leaves(params)}
    known |= {id(leaf): "model state (batch statistics)" for leaf in jax.tree.leaves(model_state)}
    return {path: known.get(id(leaf)) or _part_by_name(path, leaf) for path, leaf in trees.named_leaves(state).items()}


def _part_by_name(path: str, leaf: Any) -> str:
    words = path.lower().replace("/", "_").replace(".", "_").split("_")
    if _is_key(leaf) or any(word in words for word in KEY_WORDS):
        return "random key"
    if "scale" in words and "loss" in words:
        return "loss scale"
    if any(word.startswith("opt") or word in OPTIMIZER_WORDS for word in words):
        return "optimizer state"
    if any(word in words for word in AVERAGE_WORDS):
        return "averaged parameters"
    if np.ndim(leaf) == 0 and np.issubdtype(getattr(leaf, "dtype", np.asarray(leaf).dtype), np.integer):
        return "step counter"
    return "rest of the state"
