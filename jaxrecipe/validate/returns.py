"""Functions that can return nothing but None, seen from their code where they cannot be traced."""

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_COROUTINE


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether every way out of a Python function returns None; False where there is no Python code to look at."""
    code = getattr(_plain(function), "__code__", None)
    if code is None or code.co_flags & GENERATORS:
        return False
    returned = list(_returned(code))
    return bool(returned) and all(returned)


def _returned(code: Any) -> Iterator[bool]:
    """Of each return whether it is that of the constant None."""
    before = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST":
            yield instruction.argval is None
        elif instruction.opname == "RETURN_VALUE":
            yield before is not None and before.opname == "LOAD_CONST" and before.argval is None
        before = instruction


def _plain(function: Callable[..., Any]) -> Any:
    """The function that somebody wrote, under partial, jit and methods."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    return function if hasattr(function, "__code__") else vars(type(function)).get("__call__", function)
