"""Stage 1, become one with the data: the checks in the order in which they run."""

from jaxrecipe.checks.data.duplicates import duplicates
from jaxrecipe.checks.data.split_leakage import split_leakage

CHECKS = (
    duplicates,
    split_leakage,
)
