"""Checkpoints: what comes back is what was saved, or an error that says which array is not."""

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.training.checkpoints import checkpoint_steps, checkpoint_writer, restore_checkpoint, set_aside
from jaxrecipe.training.manifest import DamagedCheckpointError, plain_arrays, seal, unseal

# orbax reads in a background loop that may still be busy when a damaged file has raised
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def awkward_state(seed: int = 0) -> dict[str, Any]:
    """Every kind of leaf that has been seen to break a checkpoint."""
    rng = np.random.default_rng(seed)
    return {
        "step": jnp.int32(seed),
        "numpy scalar": np.asarray(seed + 0.5, np.float32),
        "params": {"a/b": jnp.asarray(rng.normal(size=(30, 7)), jnp.float32), "a": {"c": jnp.ones(3, jnp.bfloat16)}},
        "empty": jnp.zeros((0, 3)),
        "mask": jnp.asarray(rng.integers(0, 2, 5), bool),
        "tiny": jnp.ones(3, jnp.float8_e4m3fn),
        "complex": jnp.asarray([1 + 2j], jnp.complex64),
        "nothing": (None, ()),
        "nan": jnp.asarray([np.nan, -0.0, np.inf], jnp.float32),
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
    }


def blank(state: Any) -> Any:
    """The same structure with other values."""

    def other(leaf: Any) -> Any:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jax.random.key_data(leaf) * 0, impl=jax.random.key_impl(leaf))
        return jnp.zeros_like(leaf)

    return jax.tree.map(other, state)


def save_all(directory: Path, steps: Any, **options: Any) -> None:
    with checkpoint_writer(directory, **options) as save:
        for step in steps:
            save(step, awkward_state(step))


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path: Path, same: Any) -> None:
    save_all(tmp_path / "new" / "run", [3])
    state = awkward_state(3)
    restored = restore_checkpoint(tmp_path / "new" / "run", blank(state), facts={})
    assert restored is not None
    assert (restored.step, restored.damaged, restored.facts) == (3, {}, {})
    assert same(restored.state, state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored.state))


def test_the_saved_state_may_be_donated_at_once(tmp_path: Path, same: Any) -> None:
    double = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 2, tree), donate_argnums=0)
    state = {"a": jnp.arange(300_000.0), "b": jnp.ones((500, 100))}
    expected = jax.tree.map(np.array, state)
    with checkpoint_writer(tmp_path) as save:
        save(1, state)
        for _ in range(20):
            state = double(state)
    restored = restore_checkpoint(tmp_path, state)
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, restored.state, expected)


def test_newest_first_and_only_as_many_as_asked_for(tmp_path: Path, same: Any) -> None:
    save_all(tmp_path, [1, 2, 10, 9_999], keep=3)
    assert checkpoint_steps(tmp_path) == [2, 10, 9_999]
    restored = restore_checkpoint(tmp_path, awkward_state())
    assert restored is not None
    assert restored.step == 9_999
    older = restore_checkpoint(tmp_path, awkward_state(), step=2)
    assert older is not None
    assert same(older.state, awkward_state(2))
    with pytest.raises(KeyError, match="step 1 is not in"):
        restore_checkpoint(tmp_path, awkward_state(), step=1)


def test_nothing_there(tmp_path: Path) -> None:
    assert restore_checkpoint(tmp_path / "absent", awkward_state()) is None
    assert restore_checkpoint(tmp_path, awkward_state()) is None
    assert not (tmp_path / "absent").exists()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))


def files_of(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)


# Orbax, told at once that several arrays cannot be read, leaves the other reads to finish on an event loop it has
# closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_flipped_bit_in_any_file_goes_unseen(tmp_path: Path, same: Any) -> None:
    save_all(tmp_path / "good", [1])
    state, caught = awkward_state(1), 0
    for file in files_of(tmp_path / "good" / "1"):
        for share in (0.4, 0.7):
            shutil.rmtree(tmp_path / "bad", ignore_errors=True)
            shutil.copytree(tmp_path / "good", tmp_path / "bad")
            flip(tmp_path / "bad" / file.relative_to(tmp_path / "good"), int(share * file.stat().st_size))
            try:
                restored = restore_checkpoint(tmp_path / "bad", blank(state))
            except DamagedCheckpointError:
                caught += 1
            else:
                # Either the flip hit something that does not matter, or the whole step was not taken for one.
                assert restored is None or same(restored.state, state), file
    gc.collect()  # or a later test meets what Orbax left behind
    assert caught >= 3


def test_a_flipped_bit_in_array_data_is_named_and_the_step_before_is_used(tmp_path: Path, same: Any) -> None:
    import orbax.checkpoint as ocp

    save_all(tmp_path, [1, 2])
    # What a flip does when Orbax does not see it: other numbers under the old manifest.
    with ocp.CheckpointManager(tmp_path) as manager:
        manifest = manager.restore(2, args=ocp.args.Composite(manifest=ocp.args.JsonRestore()))["manifest"]
    shutil.rmtree(tmp_path / "2")
    wrong = {**awkward_state(2), "nan": jnp.asarray([np.nan, 0.0, np.inf], jnp.float32)}
    arrays = {name: array for name, array in plain_arrays(wrong).items() if array.size}
    with ocp.CheckpointManager(tmp_path) as manager:
        items = {"state": ocp.args.StandardSave(arrays), "manifest": ocp.args.JsonSave(manifest)}
        manager.save(2, args=ocp.args.Composite(**items))
    restored = restore_checkpoint(tmp_path, blank(wrong))
    assert restored is not None
    assert restored.step == 1
    assert same(restored.state, awkward_state(1))
    assert list(restored.damaged) == [2]
    assert restored.damaged[2].endswith("(SHA-256): nan")
    with pytest.raises(DamagedCheckpointError, match="step 2"):
        restore_checkpoint(tmp_path, blank(wrong), step=2)


def test_a_damaged_step_can_be_set_aside_and_saved_again(tmp_path: Path) -> None:
    save_all(tmp_path, [1, 2])
    with checkpoint_writer(tmp_path) as save:
        assert set_aside(tmp_path, 2).name == "2.damaged"
        save(2, awkward_state(2))
    assert checkpoint_steps(tmp_path) == [1, 2]
    assert set_aside(tmp_path, 2).name == "2.damaged-2"
    assert checkpoint_steps(tmp_path) == [1]


# Orbax, told at once that several arrays cannot be read, leaves the other reads to finish on an event loop it has
# closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_truncated_and_missing_files_fall_back(tmp_path: Path) -> None:
    save_all(tmp_path, [1, 2, 3])
    largest = max(files_of(tmp_path / "3"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    shutil.rmtree(tmp_path / "2" / "state" / "d", ignore_errors=True)
    shutil.rmtree(tmp_path / "2" / "state" / "ocdbt.process_0")
    restored = restore_checkpoint(tmp_path, awkward_state())
    assert restored is not None
    assert restored.step == 1
    assert list(restored.damaged) == [3, 2]
    set_aside(tmp_path, 1)
    with pytest.raises(DamagedCheckpointError, match=r"no usable checkpoint in .*step 3: .*; step 2: "):
        restore_checkpoint(tmp_path, awkward_state())


def test_another_structure_shape_or_dtype_is_an_error_that_names_the_leaves(tmp_path: Path) -> None:
    save_all(tmp_path, [1])
    template = awkward_state()
    template["params"]["a/b"] = template["params"]["a/b"].astype(jnp.float16)
    template["mask"] = jnp.zeros(6, bool)
    template["added"] = template.pop("complex")
    template["keys"] = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="does not fit the state") as caught:
        restore_checkpoint(tmp_path, template)
    for told in (
        "params/a/b was float32[30, 7], is float16[30, 7]",
        "mask was bool[5], is bool[6]",
        "complex was complex64[1], is nothing",
        "added was nothing, is complex64[1]",
        f"keys was key<rbg>[2], is key<{jax.random.key_impl(jax.random.key(0))}>[2]",
    ):
        assert told in str(caught.value)


def test_other_settings_are_an_error(tmp_path: Path) -> None:
    save_all(tmp_path, [1], facts={"seed": 0, "batch_size": 8})
    assert restore_checkpoint(tmp_path, awkward_state(), facts={"seed": 0, "batch_size": 8}) is not None
    with pytest.raises(ValueError, match="other settings: seed was 0, is 1, batch_size was 8, is 16"):
        restore_checkpoint(tmp_path, awkward_state(), facts={"seed": 1, "batch_size": 16})


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with checkpoint_writer(tmp_path) as save:
        save(1, awkward_state(1))
        with pytest.raises(BlockingIOError, match="another run is writing"), checkpoint_writer(tmp_path):
            pass
    with checkpoint_writer(tmp_path) as save, pytest.raises(FileExistsError, match="step 1 is already in"):
        save(1, awkward_state(2))


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), checkpoint_writer(tmp_path / "file" / "run"):
        pass
    with pytest.raises(ValueError, match="keep=0"), checkpoint_writer(tmp_path, keep=0):
        pass


def test_the_manifest_guards_itself() -> None:
    state = {"a": jnp.ones(2)}
    sealed = seal(state, plain_arrays(state), {"seed": 1})
    assert unseal(sealed)["facts"] == {"seed": 1}
    changed = sealed["manifest"].replace('"seed": 1', '"seed": 2')
    with pytest.raises(DamagedCheckpointError, match="SHA-256"):
        unseal({**sealed, "manifest": changed})
    with pytest.raises(DamagedCheckpointError, match="incomplete"):
        unseal(json.loads("{}"))


FULL_DISK = """
import resource, signal, sys
import jax.numpy as jnp
import jax
from jaxrecipe.training.checkpoints import checkpoint_writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with checkpoint_writer(sys.argv[1]) as save:
        save(1, {"a": jnp.ones(3)})
        save(2, {"a": jnp.ones(3)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        save(3, {"a": jax.random.normal(jax.random.key(0), (400_000,))})
        print("save returned", flush=True)
except Exception as error:
    print("raised", type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_full_disk_surfaces_and_leaves_the_steps_before(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "raised" in done.stdout, done.stdout + done.stderr
    assert checkpoint_steps(tmp_path) == [1, 2]
    assert restore_checkpoint(tmp_path, {"a": jnp.zeros(3)}) is not None
