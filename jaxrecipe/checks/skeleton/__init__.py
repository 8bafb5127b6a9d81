"""Stage 2, the end-to-end skeleton and dumb baselines."""
