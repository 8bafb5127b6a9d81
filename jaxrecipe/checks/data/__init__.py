"""Stage 1, become one with the data: the checks in the order in which they run."""

from jaxrecipe.checks.data.class_balance import class_balance
from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.checks.data.duplicates import duplicates
from jaxrecipe.checks.data.finite_inputs import finite_inputs
from jaxrecipe.checks.data.label_noise import label_noise
from jaxrecipe.checks.data.labels import labels
from jaxrecipe.checks.data.leaked_label import leaked_label
from jaxrecipe.checks.data.outliers import outliers
from jaxrecipe.checks.data.split_leakage import split_leakage
from jaxrecipe.checks.data.split_shift import split_shift

CHECKS = (
    finite_inputs,
    labels,
    class_balance,
    duplicates,
    split_leakage,
    split_shift,
    leaked_label,
    data_order,
    label_noise,
    outliers,
)
