"""The transformations of jax, flax and equinox that make compiled functions, replaced while a script runs."""

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

from jaxrecipe.adapters.watching.watch import NAMED, Watch

COMPILING = (
    ("jax", "jit"),
    ("jax", "pmap"),
    ("jax.experimental.pjit", "pjit"),
    ("flax.nnx", "jit"),
    ("flax.nnx", "pmap"),
    ("equinox", "filter_jit"),
    ("equinox", "filter_pmap"),
)
"""What makes a compiled function of one; each takes the function first, or gives a decorator."""
DIFFERENTIATING = (("jax", "grad"), ("jax", "value_and_grad"), ("jax", "vjp"))
"""What tells that a gradient is taken; those of flax and equinox are made of these."""
FUNCTION_NAMES = ("fun", "f", "func", "fn")

JAX_SETTING = re.compile(r"JAX_[A-Z0-9_]+")
TRUE = ("1", "true", "t", "yes", "y", "on")

Change = Callable[[Any], None]
"""What is done to a module once it is imported."""


@contextmanager
def hooked(watch: Watch, named: tuple[str, str] | None = None) -> Iterator[None]:
    """Compiled functions that are made in here are looked at; afterwards everything is as it was.

    Args:
        watch: that is told of them.
        named: module and name of the function to look at, where the user named one of another module than the script.
    """
    with ExitStack() as undo:
        changes: dict[str, list[Change]] = {}
        settings = dict(os.environ)
        for module, name in COMPILING:
            compiling = functools.partial(_compiling, watch, f"{module}.{name}", settings)
            changes.setdefault(module, []).append(functools.partial(_replace, undo, name, compiling))
        for module, name in DIFFERENTIATING:
            noticing = functools.partial(_differentiating, watch)
            changes.setdefault(module, []).append(functools.partial(_replace, undo, name, noticing))
        if named:
            changes.setdefault(named[0], []).append(functools.partial(replace_named, watch, undo, named[1]))
        _once_imported(undo, changes)
        watch.active = True
        try:
            yield
        finally:
            watch.active = False


def _replace(undo: ExitStack, name: str, make: Callable[[Any], Any], owner: Any) -> None:
    """Put another function in the place of one, until it is undone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # some of the functions are on their way out
        real = getattr(owner, name, None)
    if real is not None:
        undo.callback(setattr, owner, name, real)
        setattr(owner, name, make(real))


def _compiling(watch: Watch, kind: str, settings: dict[str, str], real: Callable[..., Any]) -> Callable[..., Any]:
    """A transformation whose functions are looked at."""

    @functools.wraps(real)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        _take_settings(settings)
        function = args[0] if args else next((kwargs[name] for name in FUNCTION_NAMES if name in kwargs), None)
        if function is None or not callable(function):
            return functools.partial(transformed, *args, **kwargs)
        with watch.within(None):
            compiled = real(*args, **kwargs)
        return watch.wrapped(compiled, function, kind)

    return transformed


def _take_settings(known: dict[str, str]) -> None:
    """Follow what the script has set in the environment before it imported jax, which had been imported already."""
    for name, value in os.environ.items():
        if known.get(name) == value or not JAX_SETTING.fullmatch(name) or name.lower() not in jax.config.values:
            continue
        known[name] = value
        now = jax.config.values[name.lower()]
        kind = type(now) if isinstance(now, bool | int | float) else str
        jax.config.update(name.lower(), value.lower() in TRUE if kind is bool else kind(value))


def _differentiating(watch: Watch, real: Callable[..., Any]) -> Callable[..., Any]:
    """A transformation that tells when a gradient is taken."""

    @functools.wraps(real)
    def transformed(function: Any, *args: Any, **kwargs: Any) -> Any:
        made = real(function, *args, **kwargs)
        if not callable(made):  # jax.vjp computes at once
            watch.differentiated(function)
            return made

        @functools.wraps(made)
        def gradient(*args: Any, **kwargs: Any) -> Any:
            watch.differentiated(function)
            return made(*args, **kwargs)

        return gradient

    return transformed


def replace_named(watch: Watch, undo: ExitStack, path: str, owner: Any) -> None:
    """Look at the function that the user named.

    Raises:
        AttributeError: there is none of this name.
    """
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = vars(owner).get(name, getattr(owner, name))
    undo.callback(setattr, owner, name, real)
    static = isinstance(real, staticmethod)
    function = real.__func__ if static else real
    watched = watch.wrapped(function, function, NAMED)
    setattr(owner, name, staticmethod(watched) if static else watched)


def _once_imported(undo: ExitStack, changes: Mapping[str, Sequence[Change]]) -> None:
    """Change modules: those that are imported now, the others as soon as they are."""
    finder = _Finder({name: those for name, those in changes.items() if name not in sys.modules})
    sys.meta_path.insert(0, finder)
    undo.callback(sys.meta_path.remove, finder)
    for name, those in changes.items():
        if name in sys.modules:
            for change in those:
                change(sys.modules[name])


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find some modules, and changes these when they have run."""

    def __init__(self, changes: Mapping[str, Sequence[Change]]) -> None:
        self._changes = dict(changes)

    def find_spec(self, fullname: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """The module as the other finders find it, with the changes to come."""
        those = self._changes.pop(fullname, None)  # so that the next line does not come here again
        if those is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def changed(module: Any) -> None:
            execute(module)
            for change in those:
                change(module)

        spec.loader.exec_module = changed  # this loader is made for this module only
        return spec
