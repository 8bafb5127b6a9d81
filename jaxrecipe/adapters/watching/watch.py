"""Compiled functions that are looked at while a script runs, and the decision when enough was seen."""

import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer

from jaxrecipe.adapters.watching.record import Record
from jaxrecipe.adapters.watching.seen import is_plainly_the_step

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "equinox", "chex", "orbax", "haiku", "distrax", "jaxtyping", "numpy")
"""Libraries whose own functions are no training step of the user's."""
NAMED = "named"
"""What compiled a function that the user named."""


class ScriptEnded(BaseException):
    """Enough calls were seen. No Exception, so that `except Exception` of the script lets it pass."""


class Watch:
    """What is being watched, while a script runs.

    It changes as the script runs; `records` is what is left of it afterwards.

    Attributes:
        batches: how many calls are recorded at most.
        most_bytes: what the copies of batches may take.
        by_name: whether only the function that the user named is looked at.
        go_on: whether the script goes on when enough was seen.
        active: whether calls are looked at; False before and after the script.
        ended: whether enough was seen.
        records: of every function that was called.
        gradients: functions that were differentiated outside of any watched function, and how often.
    """

    def __init__(self, *, batches: int, most_bytes: int, by_name: bool = False, go_on: bool = False) -> None:
        self.batches, self.most_bytes, self.by_name, self.go_on = batches, most_bytes, by_name, go_on
        self.active = self.ended = False
        self.records: list[Record] = []
        self.gradients: dict[str, int] = {}
        self._thread = threading.local()

    @property
    def running(self) -> list[Record | None]:
        """What is running in this thread, the outermost first; None for what is only being made."""
        if not hasattr(self._thread, "running"):
            self._thread.running = []
        return self._thread.running

    @contextmanager
    def within(self, record: Record | None) -> Iterator[None]:
        """Calls in here are those of a function that runs, or that is being made."""
        self.running.append(record)
        try:
            yield
        finally:
            self.running.pop()

    def wrapped(self, compiled: Callable[..., Any], function: Any, kind: str) -> Callable[..., Any]:
        """A compiled function whose calls are looked at; itself where it is none of the user's."""
        plain = underlying(function)
        if not self.active or self.running or self.by_name is not (kind == NAMED) or is_of_a_library(plain):
            return compiled
        return Watched(
            self, compiled, function, Record(compiled, *described(plain), kind, self.batches, self.most_bytes)
        )

    def called(self, record: Record, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a compiled function returns, after its call was looked at.

        Args:
            record: of the function.
            function: whose signature it has.
            args: that it is called with.
            kwargs: the same by name.

        Raises:
            ScriptEnded: enough was seen.
        """
        if not self.active or self.running:
            return record.step(*args, **kwargs)
        if _traced((args, kwargs)):
            with self.within(record):  # what it does is only traced once, and this may be the time
                return record.step(*args, **kwargs)
        if self.ended:
            if not self.go_on:
                raise ScriptEnded
            return record.step(*args, **kwargs)
        if record not in self.records:
            self.records.append(record)
        before = record.before(function, args, kwargs)
        with self.within(record):
            result = record.step(*args, **kwargs)
        record.after(before, result)
        if record.full and (self.by_name or is_plainly_the_step(record.recording())):
            self.ended = True
            if not self.go_on:
                raise ScriptEnded
        return result

    def differentiated(self, function: Callable[..., Any]) -> None:
        """A gradient is being taken."""
        if not self.active:
            return
        if self.running:
            if self.running[0] is not None:
                self.running[0].differentiates = True
        else:
            name = "{} ({})".format(*described(underlying(function)))
            self.gradients[name] = self.gradients.get(name, 0) + 1


class Watched:
    """A compiled function that tells a Watch of its calls, and is otherwise what it was."""

    def __init__(self, watch: Watch, compiled: Callable[..., Any], function: Any, record: Record) -> None:
        self._watch, self._record = watch, record
        self._compiled: Any = compiled
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self._watch.called(self._record, self, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A method, where it stands in a class."""
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        """Everything else that it has."""
        if name in ("_watch", "_compiled", "_record"):
            raise AttributeError(name)  # it is being copied or unpickled
        return getattr(self._compiled, name)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """What it is lowered to; compiled from there, it is looked at too."""
        with self._watch.within(self._record):
            return Lowered(self, self._compiled.lower(*args, **kwargs))


class Lowered:
    """A lowered function whose compiled form is looked at."""

    def __init__(self, watched: Watched, lowered: Any) -> None:
        self._watched, self._lowered = watched, lowered

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        """Compile it."""
        compiled = self._lowered.compile(*args, **kwargs)
        watch, record = self._watched._watch, self._watched._record
        own = Record(compiled, record.name, record.where, "compiled", record.most, record.most_bytes)
        own.differentiates = record.differentiates
        return Watched(watch, compiled, self._watched, own)

    def __getattr__(self, name: str) -> Any:
        """Everything else that it has."""
        if name in ("_watched", "_lowered"):
            raise AttributeError(name)
        return getattr(self._lowered, name)


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def underlying(function: Any) -> Any:
    """The function that someone wrote, under what was wrapped around it."""
    while True:
        inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        inner = inner or getattr(function, "__func__", None)
        if inner is None or not callable(inner):
            return function
        function = inner


def described(plain: Any) -> tuple[str, str]:
    """The name of a function, and where it is written."""
    name = getattr(plain, "__qualname__", "") or type(plain).__name__
    name = name.rsplit("<locals>.")[-1]
    code = getattr(plain, "__code__", None)
    return name, f"{Path(code.co_filename).name}, line {code.co_firstlineno}" if code else "no file"


def is_of_a_library(plain: Any) -> bool:
    """Whether a function is one of a library's own."""
    code = getattr(plain, "__code__", None)
    if code is None:
        kind = plain if inspect.isclass(plain) else type(plain)
        return (kind.__module__ or "").partition(".")[0] in (*LIBRARIES, "builtins", "functools")
    _, found, inside = code.co_filename.rpartition(f"{os.sep}site-packages{os.sep}")
    return bool(found) and inside.partition(os.sep)[0] in LIBRARIES
