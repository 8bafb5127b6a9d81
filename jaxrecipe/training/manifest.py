"""What a checkpoint says about itself: shape, dtype and SHA-256 of every array, and the settings of the run."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees

PyTree = Any
Facts = Mapping[str, int | float | str | bool | None]
"""Settings of a run that a resumed run must share: seed, batch size, number of examples."""
Manifest = Mapping[str, Any]

FORMAT = 1


class DamagedCheckpointError(RuntimeError):
    """What is stored cannot be read, or is not what was saved."""


def plain_arrays(state: PyTree) -> dict[str, jax.Array]:
    """The leaves by path as arrays of plain dtypes: PRNG keys as their data, numbers as 0-d arrays."""
    return {name: _plain(leaf) for name, leaf in trees.named_leaves(state).items()}


def like_template(arrays: Mapping[str, jax.Array], template: PyTree) -> PyTree:
    """The inverse of `plain_arrays`."""
    leaves = [
        jax.random.wrap_key_data(arrays[name], impl=jax.random.key_impl(leaf)) if _is_key(leaf) else arrays[name]
        for name, leaf in trees.named_leaves(template).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def seal(state: PyTree, arrays: Mapping[str, jax.Array], facts: Facts) -> dict[str, str]:
    """The manifest of a state as text, with its own digest beside it: a flipped bit in it must not go unseen either."""
    found = digests(arrays)
    leaves = {name: {**_kind(leaf), "sha256": found[name]} for name, leaf in trees.named_leaves(state).items()}
    text = json.dumps({"format": FORMAT, "facts": dict(facts), "leaves": leaves})
    return {"manifest": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def unseal(sealed: Any) -> Manifest:
    """Read what `seal` made.

    Raises:
        DamagedCheckpointError: it is not what was written.
    """
    try:
        text, digest = sealed["manifest"], sealed["sha256"]
        intact = hashlib.sha256(text.encode()).hexdigest() == digest
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"its manifest is incomplete ({error!r})") from error
    if not intact:
        raise DamagedCheckpointError("its manifest is not the one that was written (SHA-256 differs)")
    return json.loads(text)


def compare(manifest: Manifest, template: PyTree, facts: Facts | None, where: str) -> None:
    """Refuse a whole checkpoint that does not belong to this run.

    Raises:
        ValueError: another format, other settings, or leaves that differ in name, shape or dtype; all are named.
    """
    if manifest["format"] != FORMAT:
        raise ValueError(f"{where} has format {manifest['format']}; this version reads format {FORMAT}")
    if facts is not None and (changed := _differences(manifest["facts"], facts)):
        raise ValueError(f"{where} is of a run with other settings: {changed}. Use the same, or another directory.")
    saved = {name: f"{leaf['dtype']}{leaf['shape']}" for name, leaf in manifest["leaves"].items()}
    kinds = {name: _kind(leaf) for name, leaf in trees.named_leaves(template).items()}
    wanted = {name: f"{kind['dtype']}{kind['shape']}" for name, kind in kinds.items()}
    if different := _differences(saved, wanted):
        raise ValueError(f"{where} does not fit the state: {different}. Is it of another model or optimizer?")


def verify(manifest: Manifest, arrays: Mapping[str, jax.Array]) -> None:
    """Compare every array with its stored digest.

    Raises:
        DamagedCheckpointError: naming every array that differs.
    """
    found = digests(arrays)
    bad = [name for name, leaf in manifest["leaves"].items() if leaf["sha256"] != found[name]]
    if bad:
        raise DamagedCheckpointError(f"arrays differ from what was saved (SHA-256): {', '.join(bad)}")


def digests(arrays: Mapping[str, jax.Array]) -> dict[str, str]:
    """SHA-256 of each array's elements in C order, little-endian as on every machine that JAX runs on."""
    # hashlib lets go of the interpreter lock, so threads really hash side by side.
    with ThreadPoolExecutor() as pool:
        return dict(zip(arrays, pool.map(_digest, jax.device_get(list(arrays.values()))), strict=True))


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _plain(leaf: Any) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    return trees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(leaf: Any) -> dict[str, Any]:
    """Shape and dtype; the dtype of a PRNG key names its implementation."""
    dtype = f"key<{jax.random.key_impl(leaf)}>" if _is_key(leaf) else str(jnp.asarray(leaf).dtype)
    return {"shape": list(jnp.shape(leaf)), "dtype": dtype}


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Every name whose value differs, in words; empty if none does."""
    nothing = "nothing"
    names = [name for name in {**saved, **wanted} if saved.get(name, nothing) != wanted.get(name, nothing)]
    return ", ".join(f"{name} was {saved.get(name, nothing)}, is {wanted.get(name, nothing)}" for name in names)
