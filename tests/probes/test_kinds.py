"""The kinds of a task's inputs: declared, guessed, and what becomes of them after preparation."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrecipe.probes.kinds import drawable, input_kinds, kinds_note
from tests.probes.tasks import setup_of

BYTES = np.zeros((10, 24, 32), np.uint8)


def as_floats(inputs: Any, targets: Any) -> Any:
    return jnp.asarray(inputs, jnp.float32) / 255, targets


def test_preparation_that_keeps_the_shape_keeps_the_kind() -> None:
    kinds = input_kinds(setup_of(BYTES, prepare=as_floats))
    assert (kinds.stored, kinds.prepared) == ({"inputs": "image"}, {"inputs": "image"})
    assert input_kinds(setup_of(BYTES.astype(np.float32))).stored == {"inputs": "sequence"}
    flat = input_kinds(setup_of(BYTES, prepare=lambda x, y: (x.reshape(len(x), -1) / 255, y)))
    assert (flat.stored, flat.prepared) == ({"inputs": "image"}, {"inputs": "table"})
    one_hot = input_kinds(setup_of(np.zeros((10, 20), np.int32), prepare=lambda x, y: (jnp.eye(9)[x], y)))
    assert (one_hot.stored, one_hot.prepared) == ({"inputs": "tokens"}, {"inputs": "sequence"})


def test_what_is_declared_holds_where_it_fits() -> None:
    series = np.zeros((10, 16, 16), np.float32)
    assert input_kinds(setup_of(series)).stored == {"inputs": "image"}
    declared = input_kinds(setup_of(series, inputs="sequence"))
    assert (declared.stored, declared.prepared, declared.guessed) == (
        {"inputs": "sequence"},
        {"inputs": "sequence"},
        (),
    )
    several = {"a": series, "b": np.zeros((10, 5), np.float32)}
    kinds = input_kinds(setup_of(several, inputs={"a": "sequence"}))
    assert kinds.stored == {"a": "sequence", "b": "table"}
    assert kinds.guessed == ("b",)
    flat = input_kinds(setup_of(BYTES, inputs="image", prepare=lambda x, y: (x.reshape(len(x), -1) / 255, y)))
    assert (flat.prepared, flat.guessed) == ({"inputs": "table"}, ("inputs",))


def test_it_is_guessed_once() -> None:
    setup = setup_of(BYTES)
    assert input_kinds(setup) is input_kinds(setup)


def test_the_note_says_what_was_guessed_and_how_to_correct_it() -> None:
    note = kinds_note(setup_of(BYTES))
    assert "image" in note
    assert "Task(inputs=...)" in note
    assert kinds_note(setup_of(BYTES, inputs="image")) == ""
    both = kinds_note(setup_of({"a": BYTES, "b": np.zeros((10, 20), np.int32)}))
    assert "a as image, b as tokens" in both


def test_what_can_be_drawn() -> None:
    assert drawable(np.zeros((2, 8, 8)), "image")
    assert drawable(np.zeros((2, 8, 8, 3)), "image")
    assert not drawable(np.zeros((2, 8, 8, 2)), "image")
    assert not drawable(np.zeros((2, 64, 8)), "sequence")
