"""The Python of docs/data.md runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_of_the_page_run():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    images, labels = names["prepare"](jnp.ones((2, 32, 32, 3), jnp.uint8), jnp.zeros(2, jnp.int32))
    images, labels = names["augment"](jax.random.key(0), images, labels)
    assert images.shape == (2, 32, 32, 3)
