"""What the inputs of a task are (image, sequence, tokens, table): as declared by the user, or guessed once for all
checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.inputs import InputKind, guess_kind, kind_fits
from jaxrecipe.setup import Setup

Form = tuple[tuple[int, ...], np.dtype]
"""Shape of one example, and dtype."""


@dataclass(frozen=True)
class Kinds:
    """The kind of every input by path; a single input is called "inputs".

    Attributes:
        stored: as the data hold them.
        prepared: as they enter the model, after `Task.prepare`.
        guessed: the paths of those that no declaration fits.
    """

    stored: Mapping[str, InputKind]
    prepared: Mapping[str, InputKind]
    guessed: tuple[str, ...]


def input_kinds(setup: Setup) -> Kinds:
    """What the inputs are: `Task(inputs=...)` where it is given and fits the form, otherwise a guess by shape and
    dtype.

    Preparation that keeps the shape of an example keeps its kind.
    """
    return setup.memo((input_kinds,), lambda: _found(setup))


def _found(setup: Setup) -> Kinds:
    stored_forms = _forms(setup.train.gather(np.zeros(1, np.int64))[0])
    prepared_forms = _forms(setup.batch[0])
    stored: dict[str, InputKind] = {
        path: _declared(setup, path, form) or guess_kind(*form) for path, form in stored_forms.items()
    }
    prepared: dict[str, InputKind] = {}
    for path, form in prepared_forms.items():
        before = stored_forms.get(path)
        keeps = before is not None and before[0] == form[0] and kind_fits(stored[path], *form)
        prepared[path] = _declared(setup, path, form) or (stored[path] if keeps else guess_kind(*form))
    forms = {**stored_forms, **prepared_forms}
    guessed = tuple(path for path, form in forms.items() if _declared(setup, path, form) is None)
    return Kinds(stored, prepared, guessed)


def _forms(inputs: object) -> dict[str, Form]:
    """The form of every input by path."""
    leaves = trees.named_leaves(inputs)
    return {
        path or "inputs": (np.shape(leaf)[1:], jax.dtypes.canonicalize_dtype(leaf.dtype))
        for path, leaf in leaves.items()
    }


def _declared(setup: Setup, path: str, form: Form) -> InputKind | None:
    """What the user says of an input; None where nothing is said or it cannot be."""
    given = setup.task.inputs
    kind: InputKind | None = given.get(path) if isinstance(given, Mapping) else given
    return kind if kind is not None and kind_fits(kind, *form) else None


def kinds_note(setup: Setup) -> str:
    """What the inputs are taken as and how to correct it, in one sentence; empty where all of it is declared."""
    kinds = input_kinds(setup)
    if not kinds.guessed:
        return ""
    told = []
    for path in dict.fromkeys([*kinds.stored, *kinds.prepared]):
        before, after = kinds.stored.get(path), kinds.prepared.get(path)
        words = " and after prepare as ".join(dict.fromkeys(kind for kind in (before, after) if kind is not None))
        told.append(words if path == "inputs" else f"{path} as {words}")
    single = {*kinds.stored, *kinds.prepared} == {"inputs"}
    return f"Inputs taken{' as' if single else ':'} {', '.join(told)} (guessed by shape; Task(inputs=...) overrides)."


def drawable(leaf: np.ndarray, kind: InputKind) -> bool:
    """Whether `[n, ...]` can be drawn as pictures: images of one, three or four channels, or none."""
    return kind == "image" and (leaf.ndim == 3 or leaf.shape[-1] in (1, 3, 4))
