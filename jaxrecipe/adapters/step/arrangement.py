"""In which order a step takes state, batch and key, and where in its result the new state is: found by trying."""

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxrecipe import trees
from jaxrecipe.adapters.step.state import Arrays, Held, StateForm, alike, arrays_of

KEY_NAME = re.compile(r"(^|_)(key|keys|rng|rngs|prng|prng_key|seed)(_|$)|^rng|key$", re.IGNORECASE)
BATCH_NAME = re.compile(
    r"batch|data|input|example|image|token|label|target|^(x|y|xs|ys|xy|bx|by|xb|yb)$", re.IGNORECASE
)
STATE_NAME = re.compile(r"state|param|model|opt|weight|net|carry|metric", re.IGNORECASE)
ORDERS = (
    ("state", "batch"),
    ("state", "batch", "key"),
    ("state", "key", "batch"),
    ("key", "state", "batch"),
    ("batch", "state"),
    ("batch", "state", "key"),
    ("batch", "key", "state"),
    ("key", "batch", "state"),
)
"""The orders that are tried, the usual ones first."""
ORDERS_WITHOUT_BATCH = (("state",), ("state", "key"), ("key", "state"))
"""Those that are tried first where there is no batch; in the others it is None."""
MOST_ERRORS = 3
"""Attempts that a message names."""


@dataclass(frozen=True)
class Arrangement:
    """How a step is called.

    Attributes:
        order: of its arguments, "state", "batch" and "key".
        state: whether the pieces of the state are arguments of their own.
        batch: whether the batch is one argument, one for each of its parts, or one for each of its names.
        key_name: the keyword that takes the key, where it is not positional.
    """

    order: tuple[str, ...]
    state: bool = False
    batch: str = "whole"
    key_name: str = ""

    def arguments(self, state: Any, batch: Any, key: Any) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments."""
        positional: list[Any] = []
        named: dict[str, Any] = {self.key_name: key} if self.key_name else {}
        for role in self.order:
            if role == "state":
                positional += list(state) if self.state else [state]
            elif role == "key":
                positional.append(key)
            elif self.batch == "named":
                named |= batch
            else:
                positional += list(batch) if self.batch == "parts" else [batch]
        return positional, named

    def described(self) -> str:
        """In words, as `step(*state, batch, key)`."""
        spread = {"state": "*state" if self.state else "state", "key": "key"}
        spread["batch"] = {"whole": "batch", "parts": "*batch", "named": "**batch"}[self.batch]
        last = [f"{self.key_name}=key"] if self.key_name else []
        return f"step({', '.join([spread[role] for role in self.order] + last)})"


@dataclass(frozen=True)
class Outcome:
    """Where in a result the new state is.

    Attributes:
        places: for each piece of the state the path into the result; None where the step changes it in place, or does
            not give it back.
        unreturned: pieces that are neither given back nor changed.
    """

    places: tuple[tuple[Any, ...] | None, ...]
    unreturned: tuple[str, ...]


def arrangements(step: Callable[..., Any], state: Any, batch: Any) -> list[Arrangement]:
    """Ways in which a step could be called, those that fit the names of its parameters first."""
    positional, required, keyword = _parameters(step)
    several = isinstance(state, tuple | list) and not hasattr(state, "_fields")
    batch_forms = ["whole"]
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        batch_forms.append("parts")
    if isinstance(batch, Mapping):
        batch_forms.append("named")
    found = []
    orders = (*ORDERS_WITHOUT_BATCH, *ORDERS) if batch is None else ORDERS
    for order, spread, form in itertools.product(orders, (False, True) if several else (False,), batch_forms):
        one = Arrangement(order, spread, form, keyword if "key" not in order else "")
        named: set[Any] = set(batch or ()) if form == "named" else set()
        count = len(one.arguments(state, batch, None)[0])
        if positional is None or (count <= len(positional) and not _unfilled(positional, required, count, named)):
            found.append((-_score(one, positional or (), state, batch), len(found), one))
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])]


def _parameters(step: Callable[..., Any]) -> tuple[tuple[str, ...] | None, set[str], str]:
    """Names of positional parameters, of those without a default, and the keyword that takes a key; None when not
    known.
    """
    try:
        parameters = list(inspect.signature(step).parameters.values())
    except (TypeError, ValueError):
        return None, set(), ""
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None, set(), ""
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    keyword = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and KEY_NAME.search(one.name)]
    required = {one.name for one in positional if one.default is one.empty}
    return tuple(one.name for one in positional), required, keyword[0] if keyword else ""


def _unfilled(positional: Sequence[str], required: set[str], count: int, named: set[Any]) -> set[Any]:
    """Required parameters that an arrangement leaves open, and names that it gives twice or that are not there."""
    open_names = set(positional[count:])
    return (required & open_names - named) | (named - open_names)


def _score(one: Arrangement, names: Sequence[str], state: Any, batch: Any) -> int:
    """How well the names of the parameters fit the roles that they get."""
    roles: list[str] = []
    for role in one.order:
        count = {"state": len(state) if one.state else 1, "key": 1}.get(role)
        if count is None:
            count = {"whole": 1, "parts": len(batch) if one.batch == "parts" else 1, "named": 0}[one.batch]
        roles += [role] * count
    score = 0
    for name, role in zip(names, roles, strict=False):
        fits = {"key": KEY_NAME, "batch": BATCH_NAME, "state": STATE_NAME}[role].search(name)
        is_key = KEY_NAME.search(name) is not None
        score += 2 if fits and (role == "key") == is_key else -2 if (role == "key") != is_key else 0
    unused_key = any(KEY_NAME.search(name) for name in names[len(roles) :]) and "key" not in one.order
    return score - 2 * unused_key


def outcome_of(form: StateForm, before: Held, pieces: Sequence[Any], result: Any) -> Outcome | None:
    """Where the new state is in what a step returned; None when no piece comes back and none was changed."""
    candidates = list(result_parts(result))
    after = form.held(pieces)
    places: list[tuple[Any, ...] | None] = []
    unreturned, moved = [], False
    used: set[tuple[Any, ...]] = set()
    for index, (name, piece) in enumerate(zip(form.names, form.pieces, strict=True)):
        own = arrays_of(piece) if index not in form.graph else {}
        place = None
        if own:
            free = (path for path, arrays in candidates if path not in used and alike(arrays, own))
            place = next(free, None)
        places.append(place)
        if place is not None:
            used.add(place)
            moved = True
        elif index in form.graph:
            moved = moved or _differs(before[name], after[name])
        elif own:
            unreturned.append(name)
    return Outcome(tuple(places), tuple(unreturned)) if moved else None


def result_parts(result: Any, path: tuple[Any, ...] = (), depth: int = 2) -> Iterator[tuple[tuple[Any, ...], Arrays]]:
    """Parts of a result by path, outer ones first, that could be a piece of the state."""
    if not isinstance(result, str | bytes):
        yield path, arrays_of(result)
    if depth:
        items: Any = ()
        if isinstance(result, tuple | list) and not hasattr(result, "_fields"):
            items = enumerate(result)
        elif isinstance(result, Mapping):
            items = result.items()
        for name, part in items:
            yield from result_parts(part, (*path, name), depth - 1)


def _differs(before: Any, after: Any) -> bool:
    old, new = trees.named_leaves(before), trees.named_leaves(after)
    return old.keys() != new.keys() or any(not _same(old[path], new[path]) for path in old)


def _same(one: Any, other: Any) -> bool:
    if hasattr(one, "dtype") and jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return bool((jax.numpy.asarray(one) == jax.numpy.asarray(other)).all())


def at_place(result: Any, place: tuple[Any, ...]) -> Any:
    """What stands at a path of a result."""
    for part in place:
        result = result[part]
    return result


def without(result: Any, places: Sequence[tuple[Any, ...]]) -> Any:
    """A result without the parts at some paths: what is left are metrics."""
    if () in places:
        return {}
    if isinstance(result, tuple | list) and not hasattr(result, "_fields"):
        inner = {index: [p[1:] for p in places if p[0] == index] for index in range(len(result))}
        left = {str(i): without(part, inner[i]) for i, part in enumerate(result) if () not in inner[i]}
        return next(iter(left.values())) if len(left) == 1 else left
    if isinstance(result, Mapping):
        inner = {name: [p[1:] for p in places if p[0] == name] for name in result}
        return {name: without(part, inner[name]) for name, part in result.items() if () not in inner[name]}
    return result
