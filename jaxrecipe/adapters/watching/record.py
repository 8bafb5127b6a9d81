"""The calls of one function as they come in; `recording()` is what was seen of it so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import jax
import numpy as np

from jaxrecipe.adapters.step.state import arrays_of
from jaxrecipe.adapters.watching.carried import (
    Part,
    carried_by_identity,
    carried_by_value,
    numbers_moved,
    parts_alike,
    parts_of,
)
from jaxrecipe.adapters.watching.recording import (
    Call,
    KeptGraph,
    Place,
    Recording,
    Slot,
    equal,
    host_arrays,
    kept,
    kept_graph,
    numbers_in,
    size_of,
    slots_of,
)

MOST_STARTS = 8
"""Calls that do not go on with what the one before returned, after which a function is taken to have no state."""
MOST_WITHOUT_NEWS = 3
"""Calls in a row that bring hardly any new data, after which more of them would tell nothing."""
NEWS = 0.125
"""New bytes, as a share of all that is given beside the state, below which a call brings hardly any new data."""
FEWEST_CALLS = 2
"""Calls that show what goes on from one to the next."""


@dataclass(frozen=True)
class Before:
    """What was copied before a call.

    Attributes:
        given: the arguments by index.
        carried: where they stood in what the call before returned.
        values: the arguments themselves.
    """

    given: dict[int, Any]
    carried: dict[int, Place]
    values: tuple[Any, ...]


class Record:
    """The calls of one function. It changes with each of them.

    Attributes:
        step, name, where, kind, most, most_bytes: the function, and how many calls and bytes are kept.
        differentiates: whether it takes a gradient.
        full: whether enough is kept.
    """

    def __init__(self, step: Callable[..., Any], name: str, where: str, kind: str, most: int, most_bytes: int) -> None:
        self.step, self.name, self.where, self.kind, self.most, self.most_bytes = (
            step,
            name,
            where,
            kind,
            most,
            most_bytes,
        )
        self.differentiates = self.full = self._stateless = False
        self._seen = self._starts = self._bytes = self._moved = self._without_news = 0
        self._given: dict[int, Any] = {}
        self._objects, self._returned = False, 0
        self._calls: list[Call] = []
        self._slots: tuple[Slot, ...] = ()
        self._graph: KeptGraph | None = None
        self._alike: frozenset[int] = frozenset()
        self._parts: list[Part] = []
        self._copies: list[Part] | None = None
        self._last: tuple[Any, ...] = ()

    def recording(self) -> Recording:
        """What was seen so far."""
        return Recording(
            step=self.step,
            name=self.name,
            where=self.where,
            kind=self.kind,
            slots=self._slots,
            graph=self._graph,
            calls=tuple(self._calls),
            seen=self._seen,
            alike=self._alike,
            moved=self._moved,
            differentiates=self.differentiates,
            objects=self._objects,
            returned=self._returned,
        )

    def before(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Before | None:
        """Copies of what a call is given; None where it is not kept."""
        self._seen += 1
        if self.full or self._stateless:
            return None
        slots, values = slots_of(function, args, kwargs), (*args, *kwargs.values())
        if not self._calls or slots != self._slots:
            return self._first(slots, values) if len(self._calls) < FEWEST_CALLS else None
        carried = carried_by_identity(self._parts, values)
        if carried:
            self._copies = None
        elif self._copies is not None:
            carried = carried_by_value(self._copies, values)
        graph = self._graph.slots if self._graph else ()
        if not carried and not any(values[index] is self._last[index] for index in graph):
            if len(self._calls) >= FEWEST_CALLS:
                self.full = True  # a second training begins, which has nothing to do with the first
                return None
            return self._first(slots, values)
        given = {i: self._copy(i, one) for i, one in enumerate(values) if i not in carried and i not in graph}
        new = size_of([one for i, one in given.items() if one is not self._given[i]])
        self._bytes += new
        self._without_news = self._without_news + 1 if new < NEWS * size_of(list(given.values())) else 0
        self._given = given
        return Before(given, carried, values)

    def _copy(self, index: int, value: Any) -> Any:
        """A copy of an argument; that of the call before where nothing of it has changed."""
        before = self._given[index]
        ours, last = jax.tree.leaves(value), jax.tree.leaves(self._last[index])
        if all(one is other and isinstance(one, jax.Array) for one, other in zip_longest(ours, last)):
            return before
        copy = kept(value)
        return before if equal(copy, before) else copy

    def _first(self, slots: tuple[Slot, ...], values: tuple[Any, ...]) -> Before | None:
        """Copies of what the first call is given, state and all."""
        self._starts += 1
        if self._starts > MOST_STARTS:
            self._forget()
            return None
        self._slots, self._graph, self._bytes = slots, kept_graph(values), 0
        self._calls.clear()
        graph = self._graph.slots if self._graph else ()
        self._given = {i: kept(one) for i, one in enumerate(values) if i not in graph}
        return Before(self._given, {}, values)

    def after(self, before: Before | None, result: Any) -> None:
        """Keep a call that was made, and what it returned until the next one."""
        if before is None:
            return
        first = not self._calls
        self._parts = parts_of(result)
        if first or self._copies is not None:
            wanted = [part[0] for value in before.values for part in parts_alike(self._parts, value)]
            self._copies = [(path, kept(arrays)) for path, arrays in self._parts if path in wanted]
        if first and not self._has_state(before, result):
            self._forget()
            return
        self._calls.append(Call(before.given, before.carried, numbers_in(result)))
        self._last = before.values
        enough = len(self._calls) >= FEWEST_CALLS
        much = self._bytes > self.most_bytes or self._without_news >= MOST_WITHOUT_NEWS
        self.full = len(self._calls) >= self.most or (enough and much)

    def _has_state(self, before: Before, result: Any) -> bool:
        """Whether arguments of the first call come back or were changed, and how many of their numbers are others."""
        alike = {i: parts for i, value in enumerate(before.values) if (parts := parts_alike(self._parts, value))}
        copies = dict(self._copies or [])
        self._alike = frozenset(alike)
        self._objects = self._graph is not None
        self._returned = sum(np.ndim(leaf) > 0 for leaf in arrays_of(result).values())
        self._moved = sum(
            numbers_moved(host_arrays(before.given[i]), host_arrays(list(copies[parts[0][0]].values())))
            for i, parts in alike.items()
        )
        after = kept_graph(before.values)
        changed = 0
        if self._graph and after:
            changed = numbers_moved(host_arrays(self._graph.state), host_arrays(after.state))
        self._moved += changed
        return bool(alike) or changed > 0

    def _forget(self) -> None:
        """Nothing of a function without state is kept."""
        self._stateless = True
        self._calls, self._parts, self._last, self._copies, self._graph, self._given = [], [], (), None, None, {}
        self._slots, self._alike = (), frozenset()
