"""Checkpoint round trip: a state that was saved and restored goes on as if nothing had happened."""

import errno
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.training.checkpoints import checkpoint_writer, restore_checkpoint

_result = partial(unsorted_result, name="checkpoint_round_trip", stage="skeleton")
Save = Callable[[Any, str], None]
Restore = Callable[[str, Any], Any]


def checkpoint_round_trip(setup: Setup, *, key: PRNGKeyArray, steps: int = 3) -> Result:
    """What is restored is what was saved, bit for bit, and training goes on from it in the same way.

    What it does: takes a few training steps, saves the state with your own `save` into a temporary directory, and restores it with your own
    `restore` into a fresh state that started from another key. Every leaf must come back with the same dtype, shape and bits. Then the same
    steps are taken from the state that was saved and from the one that came back, and must end in the same state. A task without a loop
    of its own is checked with the library's checkpoints.

    Why it matters: a run that resumes without its momentum, its batch statistics, its step counter or its random key is another run. Nothing
    raises: the loss makes a small jump, the learning rate warms up again, or dropout repeats itself.

    What to do: save the whole state, not only the parameters, and let restore take every leaf from the file.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps before saving, and again after it. Three move every counter and every moment.

    Source: the state that a resumable run needs; the PyTorch documentation, "Saving a general checkpoint for inference and/or resuming training".
    """
    loop = setup.loop
    save, restore = (loop.save, loop.restore) if setup.owns_loop else (_library_save, _library_restore)
    if save is None or restore is None:
        missing = " and ".join(name for name in ("save", "restore") if getattr(loop, name) is None)
        return _result(
            status=Status.SKIP,
            finding=f"The loop has no {missing}, so nothing can be saved and restored.",
            hint="Give Loop(save=..., restore=...): save(state, directory) writes the whole state, restore(directory, template) returns it.",
        )
    state = _advanced(setup, setup.fresh_state(), key, 0, steps)
    template = loop.init(jax.random.fold_in(key, 1_000_003))
    restored = _round_trip(save, restore, state, template)
    if isinstance(restored, Result):
        return restored
    if jax.tree.structure(restored) != jax.tree.structure(state):
        return _result(
            status=Status.FAIL,
            finding="The restored state has another structure than the one that was saved.",
            hint=f"Rebuild the state's own type in restore. Saved: {_structure(state)}. Restored: {_structure(restored)}.",
        )
    leaves = _compare(setup, state, restored, template)
    try:
        ends = [_advanced(setup, trees.copy(start), key, steps, steps) for start in (state, state, restored)]
    except Exception as error:
        if not any(leaf.difference for leaf in leaves):
            raise
        ends, raised = [], f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    else:
        raised = ""
    return _told(leaves, ends, raised, steps)


class Leaf(NamedTuple):
    """One leaf of a state.

    Attributes:
        path: where it is.
        part: what it belongs to.
        difference: what is wrong with it, "" if nothing.
        same_value: whether at most its type differs.
        untouched: whether what came back is the template's.
    """

    path: str
    part: str
    difference: str
    same_value: bool
    untouched: bool


def _told(leaves: list[Leaf], ends: list[Any], raised: str, steps: int) -> Result:
    """The verdict, from the leaves that came back and from the ends of three runs: from the state, again, and from what came back."""
    lost = [leaf for leaf in leaves if leaf.difference]
    repeats = bool(ends) and _differing(ends[0], ends[1]) == 0
    apart = _differing(ends[0], ends[2]) if repeats else 0
    measured = {
        "leaves": len(leaves),
        "leaves that differ": len(lost),
        f"leaves that differ after {steps} more steps": apart,
    }
    rows = [
        (leaf.path, leaf.part, leaf.difference or "none") for leaf in sorted(leaves, key=lambda one: not one.difference)
    ]
    table = Table(title="The state, saved and restored", columns=("leaf", "part", "difference"), rows=rows[:40])
    verdict = partial(_result, measured=measured, expected=dict.fromkeys(list(measured)[1:], 0), evidence=(table,))
    if lost:
        parts = ", ".join(dict.fromkeys(leaf.part for leaf in lost))
        harmless = repeats and not apart and all(leaf.same_value for leaf in lost)
        return verdict(
            status=Status.WARN if harmless else Status.FAIL,
            finding=f"{len(lost)} of {len(leaves)} leaves do not come back as they were saved: {parts} "
            f"({lost[0].path}: {lost[0].difference})." + (f" No step can be taken from it: {raised}" if raised else ""),
            hint=_hint(lost),
        )
    if apart:
        return verdict(
            status=Status.FAIL,
            finding=f"Every leaf comes back as it was saved, but {apart} leaves differ after {steps} more steps.",
            hint="The step keeps something outside the state (a counter, a generator, a global): put it into the state, so that it is saved.",
        )
    end = (
        f"and {steps} more steps from it end in the same state."
        if repeats
        else "but two runs of the step differ anyway (see fix_random_seed)."
    )
    return verdict(status=Status.PASS, finding=f"All {len(leaves)} leaves of the state come back bit for bit, {end}")


def _advanced(setup: Setup, state: Any, key: PRNGKeyArray, start: int, steps: int) -> Any:
    """The state some steps later."""
    for step in range(start, start + steps):
        state, _ = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
    return state


def _round_trip(save: Save, restore: Restore, state: Any, template: Any) -> Any:
    """The state that comes back, or a result that says which of the two raised."""
    with tempfile.TemporaryDirectory(prefix="jaxrecipe-") as directory:
        under_way = "save"
        try:
            save(trees.copy(state), directory)
            under_way = "restore"
            return jax.tree.map(_own, restore(directory, trees.copy(template)))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise  # says nothing about the code
            told = str(error).splitlines() or [""]
            return _result(
                status=Status.FAIL,
                finding=f"{under_way} raised {type(error).__name__}: {told[0][:300]}",
                hint="save gets the state and an existing empty directory; restore gets the same directory and a fresh state as the template.",
            )


def _own(leaf: Any) -> Any:
    """The leaf in memory of its own, as the directory that it may be mapped from goes; its dtype as it came.

    A JAX array is also made free to be on any device, as a fresh one is, or the step would compile anew for it.
    """
    if isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.array(np.asarray(leaf), leaf.dtype) if leaf.is_fully_addressable else leaf
    if isinstance(leaf, jax.Array):
        return jax.random.wrap_key_data(
            jnp.array(np.asarray(jax.random.key_data(leaf))), impl=jax.random.key_impl(leaf)
        )
    return np.array(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def _library_save(state: Any, directory: str) -> None:
    with checkpoint_writer(directory) as save:
        save(int(state.step), state)


def _library_restore(directory: str, template: Any) -> Any:
    found = restore_checkpoint(directory, template)
    if found is None:
        raise FileNotFoundError(f"there is no checkpoint in {directory}")
    return found.state


def _compare(setup: Setup, state: Any, restored: Any, template: Any) -> list[Leaf]:
    """Every leaf of what was saved beside what came back."""
    saved, back, fresh = (trees.named_leaves(tree) for tree in (state, restored, template))
    parts = _parts(setup, state)
    return [
        Leaf(
            path,
            parts[path],
            _difference(leaf, back[path]),
            _same_value(_host(leaf), _host(back[path])),
            path in fresh and not _difference(fresh[path], back[path]),
        )
        for path, leaf in saved.items()
    ]


def _host(leaf: Any) -> np.ndarray:
    """A leaf on the host; a typed key as the numbers that it holds."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _same_value(left: np.ndarray, right: np.ndarray) -> bool:
    if left.shape != right.shape:
        return False
    comparable = all(jnp.issubdtype(one.dtype, np.number) or one.dtype == bool for one in (left, right))
    return left.tobytes() == right.tobytes() or (comparable and bool(np.all(left == right)))


def _difference(saved: Any, restored: Any) -> str:
    """In words how a leaf differs, "" when it does not. Python numbers and arrays of their dtype count as different."""
    if trees.is_array(saved) and getattr(restored, "dtype", None) != saved.dtype:
        return f"{saved.dtype} came back as {getattr(restored, 'dtype', type(restored).__name__)}"
    left, right = _host(saved), _host(restored)
    if left.shape != right.shape:
        return f"shape {list(left.shape)} came back as {list(right.shape)}"
    if left.tobytes() == right.tobytes():
        return ""
    return (
        f"{int((left != right).sum())} of {left.size} numbers" if left.size > 1 else f"{left!s} came back as {right!s}"
    )


def _parts(setup: Setup, state: Any) -> dict[str, str]:
    """What each leaf of a state is, by where `variables` finds it, by its dtype and by its name."""
    params, model_state = setup.loop.variables(state)
    known = {id(leaf): "parameters" for leaf in jax.tree.leaves(params)}
    known |= {id(leaf): "model state (batch statistics)" for leaf in jax.tree.leaves(model_state)}
    return {path: known.get(id(leaf)) or _by_name(path, leaf) for path, leaf in trees.named_leaves(state).items()}


def _by_name(path: str, leaf: Any) -> str:
    lowered = path.lower()
    words = lowered.replace("/", "_").replace(".", "_").split("_")
    if trees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "random key"
    if "rng" in words or "key" in words or "seed" in words:
        return "random key"
    if "scale" in words and "loss" in words:
        return "loss scale"
    optimizer = any(
        word.startswith("opt") or word in ("mu", "nu", "trace", "count", "momentum", "tx") for word in words
    )
    if optimizer:
        return "optimizer state"
    if "ema" in words or "average" in words or "shadow" in words:
        return "averaged parameters"
    if np.ndim(leaf) == 0 and np.issubdtype(getattr(leaf, "dtype", np.asarray(leaf).dtype), np.integer):
        return "step counter"
    return "rest of the state"


CONSEQUENCES = {
    "parameters": "parameters: the model itself is not restored",
    "model state (batch statistics)": "batch statistics: evaluation uses their initial values after a restart",
    "optimizer state": "optimizer state: momentum starts from zero and the schedule from its beginning",
    "step counter": "step counter: schedules, data order and everything folded by the step start again",
    "random key": "random key: dropout and augmentation draw something else, or the same as before, after a restart",
    "loss scale": "loss scale: it is found anew, by skipped steps",
    "averaged parameters": "averaged parameters: the average starts anew",
    "rest of the state": "some of the state",
}


def _hint(lost: list[Leaf]) -> str:
    """What is lost, how that shows, and what to do."""
    parts = list(dict.fromkeys(leaf.part for leaf in lost))
    told = "; ".join(CONSEQUENCES[part] for part in parts)
    if all(f"{leaf.difference} ".partition(" came back as ")[2].strip(" |").isidentifier() for leaf in lost):
        return f"The type is lost ({told}): store dtypes with the arrays (numpy's files do not know bfloat16), and cast back to the template's."
    how = (
        "they are those of the template"
        if all(leaf.untouched for leaf in lost)
        else "they are neither what was saved nor the template's"
    )
    return f"Lost: {told}. After restore {how}: save the whole state, and take every leaf from the file."


def _structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))[:200]


def _differing(left: Any, right: Any) -> int:
    """How many leaves of two states differ in any bit."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum(_host(a).tobytes() != _host(b).tobytes() for a, b in pairs)
