"""The catalogue is whole: every fault has a number, a sentence, checks that should catch it and causes that exist."""

import jax
import numpy as np
import pytest

import jaxrecipe as jr
from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.controls import CONTROLS, Control
from jaxrecipe.catalogue.fault import CATEGORIES, Fault
from jaxrecipe.catalogue.table import FAULTS, fault_called
from jaxrecipe.checks.table import RECIPE
from jaxrecipe.diagnosis.causes.table import CAUSES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
MOST_CAUSES = 3


def test_every_number_is_there() -> None:
    assert {fault.number for fault in FAULTS} == {number for numbers in CATEGORIES.values() for number in numbers}
    assert {fault.number for fault in FAULTS} >= set(range(1, 65))


def test_names_are_unique_and_in_order() -> None:
    names = [fault.name for fault in FAULTS] + [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)
    assert [fault.number for fault in FAULTS] == sorted(fault.number for fault in FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_says_what_is_wrong_and_what_should_be_said(fault: Fault) -> None:
    assert fault.title.endswith(".")
    assert fault.category
    assert fault.caught_by
    assert set(fault.caught_by) <= {"validate", *(check.name for check in RECIPE)}
    assert 1 <= len(fault.causes) <= MOST_CAUSES
    assert set(fault.causes) <= set(CAUSES)


def test_controls_are_healthy_so_nothing_can_be_their_cause() -> None:
    assert len(CONTROLS) >= 24
    assert not [control.name for control in CONTROLS if getattr(control, "causes", ())]


def test_a_fault_is_found_by_its_name() -> None:
    assert fault_called("17a_softmax_in_model") in FAULTS
    with pytest.raises(
        ValueError, match="no fault is called '17x'; there are 17a_softmax_in_model, 17b_softmax_in_loss"
    ):
        fault_called("17x")


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_controls_are_valid(control: Control) -> None:
    with jax.numpy_dtype_promotion("standard"):  # the set-ups are written as users write theirs
        jr.validate(control.make(1))


@pytest.mark.parametrize(
    ("metric", "value", "reached"),
    [("accuracy", 0.5, True), ("accuracy", 0.49, False), ("loss", 0.5, True), ("absolute_error", 0.51, False)],
)
def test_a_mark_is_a_floor_for_scores_and_a_ceiling_for_errors(metric: str, value: float, reached: bool) -> None:
    assert Control(bases.table_mlp, metric, 0.5).reached(value) is reached


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.on in (bases.table_mlp, bases.three_parameters)], ids=lambda f: f.name
)
def test_planting_leaves_the_healthy_task_as_it_was(fault: Fault) -> None:
    task = fault.on(0)
    before = jax.tree.map(np.array, task.train)
    broken = fault.plant(task)
    assert broken is not task
    jax.tree.map(np.testing.assert_array_equal, before, task.train)


def test_the_seed_changes_the_split() -> None:
    assert not np.array_equal(bases.picture_mlp(0).train[1], bases.picture_mlp(1).train[1])
