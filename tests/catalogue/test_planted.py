"""A fault of each kind, planted: a check that should catch it fails, and the right cause stands first."""

import jax
import pytest

from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.table import fault_called
from jaxrecipe.recipe import check
from jaxrecipe.report.result import Status

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
SAMPLE = (
    "02_test_labels_off_by_one",
    "04a_labels_divided",
    "07_test_not_scaled",
    "12_conflicting_duplicates",
    "13_test_in_training",
    "14a_label_as_column",
    "17a_softmax_in_model",
    "19_softmax_over_batch",
    "22_column_against_row",
    "24b_error_sign_flipped",
    "28b_weights_by_place",
    "33a_zero_init",
    "36b_no_final_bias",
    "38b_heads_merged_by_reshape",
    "41a_input_ignored",
    "45_updates_thrown_away",
    "46a_layer_frozen",
    "54a_unseeded_init",
    "55b_optimizer_state_dropped_alone",
    "58_last_batch_dropped",
    "60_evaluates_training_split",
    "63a_restored_without_optimizer",
    "64b_gradients_underflow",
    "65_labels_from_one",
    "66_gradient_of_few_is_nan",
    "68_head_masked",
    "69_bytes_wrap",
    "70_schedule_free_not_averaged",
)
"""Quick ones from all over the catalogue; the benchmark (`python -m experiments.faults`) runs all of them."""


@pytest.mark.parametrize("fault", [fault_called(name) for name in SAMPLE], ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught_and_called_by_its_name(fault: Fault) -> None:
    with jax.numpy_dtype_promotion("standard"):  # the set-ups are written as users write theirs
        report = check(fault.make(0), only=fault.caught_by)
    assert any(result.status is Status.FAIL for result in report.results), report
    first = next(iter(report.causes)).code
    assert first in fault.causes, [cause.code for cause in report.causes]
