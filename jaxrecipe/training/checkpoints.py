"""Save and resume through Orbax, with every array verified: what comes back is what was saved, or an error says which
is not.

Orbax restores a flipped bit without a word, casts a wrong dtype silently and has no way back to an older step. So each
checkpoint carries a manifest with name, shape, dtype and SHA-256 of every array, and is checked against it.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jaxrecipe.training.manifest import (
    DamagedCheckpointError,
    Facts,
    Manifest,
    compare,
    like_template,
    plain_arrays,
    seal,
    unseal,
    verify,
)

PyTree = Any
Save = Callable[[int, PyTree], None]
"""`save(step, state)`."""


@dataclass(frozen=True)
class Restored:
    """A state read back.

    Attributes:
        step: the step it was saved at.
        state: of the template's structure.
        facts: what was stored about the run.
        damaged: newer steps that could not be used, each with the reason; empty when the newest step was good.
    """

    step: int
    state: PyTree
    facts: Facts
    damaged: Mapping[int, str]


@contextlib.contextmanager
def checkpoint_writer(
    directory: str | os.PathLike[str], *, facts: Facts | None = None, keep: int = 3
) -> Iterator[Save]:
    """A function `save(step, state)` for the `with` block; leaving the block waits until all is on disk.

    `save` returns when the state is copied and hashed, so it may be donated at once. The writing goes on behind it, and
    a failure of that (a full disk) is raised by the next `save` or at the end of the block. A step only counts when it
    is
    whole: a kill in the middle of a save leaves the steps before it intact.

    Args:
        directory: made if need be. One writer at a time; the lock on it ends with the process, however that ends.
        facts: settings to store with every step, compared by `restore_checkpoint`.
        keep: how many of the newest steps to keep.

    Raises:
        BlockingIOError: another writer has the directory open.
        FileExistsError: `save` was called with a step that is already there.
        OSError: the directory cannot be made or written, now or when writing.
        ValueError: keep < 1.
    """
    if keep < 1:
        raise ValueError(f"got keep={keep}; wanted at least 1 checkpoint to be kept")
    import orbax.checkpoint as ocp

    path = Path(directory).absolute()
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path), _manager(path, max_to_keep=keep, cleanup_tmp_directories=True) as manager:

        def save(step: int, state: PyTree) -> None:
            manager.wait_until_finished()
            manager.reload()  # a damaged step may have been set aside
            if step in manager.all_steps():
                raise FileExistsError(f"step {step} is already in {path}; restore it, or choose an empty directory")
            arrays = plain_arrays(state)
            sealed = ocp.args.JsonSave(seal(state, arrays, facts or {}))
            # Orbax cannot store arrays without elements; their shape and dtype in the manifest say everything.
            stored = ocp.args.StandardSave({name: array for name, array in arrays.items() if array.size})
            if not manager.save(step, args=ocp.args.Composite(state=stored, manifest=sealed), force=True):
                raise OSError(f"Orbax declined to save step {step} in {path}")

        yield save
        manager.wait_until_finished()


def restore_checkpoint(
    directory: str | os.PathLike[str], template: PyTree, *, facts: Facts | None = None, step: int | None = None
) -> Restored | None:
    """Read back the newest good step, or a given one; None when there is no checkpoint. Writes nothing.

    Every array is compared with its stored digest. A newer step that is damaged is passed over, and `damaged` says so.

    Args:
        directory: where `checkpoint_writer` wrote; it need not exist.
        template: a state of the wanted structure, shapes, dtypes and devices; its values are not used.
        facts: settings that must be the same as when it was saved; None compares nothing.
        step: this step and no other.

    Raises:
        DamagedCheckpointError: the given step is damaged, or every step is.
        KeyError: the given step is not there.
        ValueError: the checkpoint is whole but of another structure, shape or dtype than the template (every leaf that
            differs is named), or of a run with other settings.
    """
    path = Path(directory).absolute()
    steps = checkpoint_steps(path)
    if step is not None and step not in steps:
        raise KeyError(f"step {step} is not in {path}; there are {steps or 'no steps'}")
    damaged: dict[int, str] = {}
    for candidate in reversed(steps) if step is None else [step]:
        try:
            manifest = _read_manifest(path, candidate)
            compare(manifest, template, facts, f"step {candidate} in {path}")
            return Restored(candidate, _read_state(path, candidate, manifest, template), manifest["facts"], damaged)
        except DamagedCheckpointError as error:
            damaged[candidate] = str(error)
    if damaged:
        told = "; ".join(f"step {bad}: {why}" for bad, why in damaged.items())
        raise DamagedCheckpointError(
            f"no usable checkpoint in {path}: {told}. Restore a backup, or start anew elsewhere."
        )
    return None


def checkpoint_steps(directory: str | os.PathLike[str]) -> list[int]:
    """The steps that are stored whole, ascending; empty for a directory that does not exist."""
    path = Path(directory).absolute()
    if not path.is_dir():
        return []
    with _manager(path) as manager:
        return sorted(manager.all_steps())


def set_aside(directory: str | os.PathLike[str], step: int) -> Path:
    """Rename a damaged step to `STEP.damaged`, so that it is out of the way and not lost; returns the new path."""
    path = Path(directory).absolute()
    target, count = path / f"{step}.damaged", 1
    while target.exists():
        count += 1
        target = path / f"{step}.damaged-{count}"
    return (path / str(step)).rename(target)


@contextlib.contextmanager
def _manager(path: Path, **options: Any) -> Iterator[Any]:
    """Orbax's manager, closed at the end. Not its read-only mode for reading: that one logs warnings."""
    import orbax.checkpoint as ocp

    manager = ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(create=False, **options))
    try:
        yield manager
    finally:
        manager.close()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock, so that two runs cannot write over each other. Without effect where there is no
    flock.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise BlockingIOError(
            f"another run is writing checkpoints to {path}; wait for it to end, or choose another directory"
        ) from error
    finally:
        os.close(descriptor)


def _read_manifest(path: Path, step: int) -> Manifest:
    import orbax.checkpoint as ocp

    try:
        with _manager(path) as manager:
            sealed = manager.restore(step, args=ocp.args.Composite(manifest=ocp.args.JsonRestore()))["manifest"]
    except Exception as error:  # Orbax has many exceptions for a file that is not whole, and none of its own.
        raise DamagedCheckpointError(f"its manifest cannot be read ({type(error).__name__}: {error})") from error
    return unseal(sealed)


def _read_state(path: Path, step: int, manifest: Manifest, template: PyTree) -> PyTree:
    import orbax.checkpoint as ocp

    wanted = plain_arrays(template)
    targets = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
        for name, array in wanted.items()
        if array.size
    }
    try:
        with _manager(path) as manager:
            found = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(targets)))["state"]
    except Exception as error:  # As above.
        raise DamagedCheckpointError(f"its arrays cannot be read ({type(error).__name__}: {error})") from error
    arrays = {name: found.get(name, empty) for name, empty in wanted.items()}
    verify(manifest, arrays)
    return like_template(arrays, template)
