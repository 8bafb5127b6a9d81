"""Stage 1, become one with the data: the checks in the order in which they run."""

CHECKS = ()
