"""Which arrays of a state are parameters, which are copies in their form (moments, averages), and which count."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxrecipe import trees
from jaxrecipe.probes.step_pass import Leaves

MOST_OF = 0.5
"""Share of the parameters that a part of the state must have an array of the same name and shape for, to be in their
form: masks leave some out."""
COUNTER = "count"
"""What optax calls the number of updates."""


@dataclass(frozen=True)
class Mirror:
    """A part of the state in the form of the parameters: moments, momentum, an average, a target network.

    Attributes:
        prefix: its path.
        arrays: path of each of its arrays, with that of the parameter that it belongs to.
    """

    prefix: str
    arrays: dict[str, str]

    @property
    def unit(self) -> str:
        """The path of what it is a field of: of an optimizer's own state its counter is in there too."""
        return self.prefix.rpartition("/")[0]


@dataclass(frozen=True)
class Layout:
    """Where things stand in a state.

    Attributes:
        params: path in the state of each parameter, with its path among the parameters.
        mirrors: the parts in their form.
        found: whether every parameter stands in the state as it is; otherwise nothing can be said of the rest.
    """

    params: dict[str, str]
    mirrors: tuple[Mirror, ...]
    found: bool

    def without_params(self, path: str) -> bool:
        """Whether no parameter stands at or below a path."""
        return not any(inside(param, path) for param in self.params)


def inside(path: str, above: str) -> bool:
    """Whether a path stands at or below another; everything stands below the empty one."""
    return not above or path == above or path.startswith(f"{above}/")


def layout_of(state: Any, params: Any, leaves: Leaves) -> Layout:
    """Find the parameters in a state by identity, and what has their names and shapes elsewhere."""
    by_identity = {id(leaf): path for path, leaf in trees.named_leaves(state).items()}
    named = trees.named_leaves(params)
    places = {by_identity[id(leaf)]: path for path, leaf in named.items() if id(leaf) in by_identity}
    return Layout(places, tuple(_mirrors(places, leaves)), len(places) == len(named))


def _mirrors(params: dict[str, str], leaves: Leaves) -> Iterable[Mirror]:
    start = _common([path.split("/")[:-1] for path in params])
    tails = {path: "/".join(path.split("/")[start:]) for path in params}
    count: Counter[str] = Counter()
    for path, array in leaves.items():
        if path not in params:
            for param, tail in tails.items():
                if (path == tail or path.endswith(f"/{tail}")) and array.shape == leaves[param].shape:
                    count[path[: -len(tail)].rstrip("/")] += 1
    for prefix, number in count.items():
        if number >= MOST_OF * len(params):
            placed = {f"{prefix}/{tail}".lstrip("/"): param for param, tail in tails.items()}
            yield Mirror(prefix, {path: param for path, param in placed.items() if path in leaves})


def _common(paths: list[list[str]]) -> int:
    """How many first parts all paths share."""
    shared = 0
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return shared
