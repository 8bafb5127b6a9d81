"""The Python of docs/precision.md runs as it stands, and its figures are those that are stored."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxrecipe.report.result import Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "precision.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_of_the_page_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, Any] = {}
    with jax.numpy_dtype_promotion("standard"):  # as users have it
        for block in blocks:
            exec(block, names)
    statuses = {result.name: result.status for result in names["report"].results}
    assert statuses == {
        "precision_parity": Status.PASS,
        "loss_scale": Status.PASS,
        "half_precision_updates": Status.SKIP,
    }


def test_the_figures_of_the_comparison_are_those_stored() -> None:
    stored = json.loads((ROOT / "experiments" / "results" / "precision_peers.json").read_text())["scenarios"]
    for name, peer in {
        "jaxrecipe": "jaxrecipe",
        "jmp": "jmp",
        "mpx": "mpx",
        "flax": "flax DynamicScale",
        "`apply_if_finite`": "optax.apply_if_finite",
        "GradScaler": "torch GradScaler",
    }.items():
        verdicts = [row[peer]["verdict"] for row in stored.values()]
        asked = [verdict for verdict in verdicts if verdict in ("pass", "FAIL", "raised")]
        assert f"{name} {asked.count('pass')} of {len(asked)}" in PAGE
