"""Modules that do nothing, for what a project logs, draws or samples with and training does not need."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterable, MutableSequence
from types import ModuleType
from typing import Any


class Idle(ModuleType):
    """Takes any call, has any attribute, may be entered, and does nothing."""

    __path__: MutableSequence[str] = []  # so that it may have modules  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Idle(f"{self.__name__}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Idle(self.__name__)

    def __bool__(self) -> bool:
        return False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        return None


class IdleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an idle module for some names and all that lies below them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """A module of that name, where it is one of ours."""
        del path, target
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Idle:
        """The module."""
        return Idle(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def stand_in(names: Iterable[str]) -> None:
    """From now on modules of these names are idle ones."""
    sys.meta_path.insert(0, IdleFinder(names))
