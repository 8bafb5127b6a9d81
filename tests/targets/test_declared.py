"""Declared targets are plain values."""

import dataclasses

import pytest

from jaxrecipe.targets import Binary, Classes, Values, is_target


def test_targets_are_values() -> None:
    assert Classes(3) == Classes(3) != Classes(4)
    assert len({Classes(3), Classes(3), Binary()}) == 2
    assert is_target(Values()) and not is_target({"a": Values()}) and not is_target(Classes)  # noqa: PT018
    with pytest.raises(dataclasses.FrozenInstanceError):
        Classes(3).n = 4  # pyright: ignore[reportAttributeAccessIssue]
