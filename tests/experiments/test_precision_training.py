"""The experiment on training in each precision, at its smallest: real runs of a few steps, tables against numpy."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import precision_training as experiment
from experiments.loop_overhead import make_tiny_task
from experiments.transformer import ALPHABET, Transformer, text, text_task, windows
from jaxrecipe.precision import dynamic_loss_scale

SETTING = {"steps": {"digits": 4, "text": 4}}


def run_of(loss: float, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {"loss": loss, "accuracy": accuracy, "skipped": 0, "scale": 1.0, "curve": [1.0], "scales": []} | changes


def test_differences_are_paired_by_seed() -> None:
    losses = {"float32": (0.1, 0.5, 0.9), "float16, dynamic": (0.12, 0.51, 0.93)}
    runs = {
        f"text | {name} | {seed}": run_of(loss, 1 - loss, skipped=seed, scale=2.0**seed)
        for name, each in losses.items()
        for seed, loss in enumerate(each)
    }
    row = experiment.row_of(runs, "text", "float16, dynamic", (0, 1, 2))
    differences = np.array([0.02, 0.01, 0.03])
    half = 4.302652729911275 * differences.std(ddof=1) / np.sqrt(3)
    expected = [differences.mean(), differences.mean() - half, differences.mean() + half]
    np.testing.assert_allclose(row["loss difference"], expected, rtol=1e-9)
    np.testing.assert_allclose(row["accuracy difference"], [-value for value in (0.02, *expected[:0:-1])], rtol=1e-9)
    assert row["skipped"] == [0, 1, 2]
    lines = experiment.table([experiment.row_of(runs, "text", "float32", (0, 1, 2)), row]).splitlines()
    assert lines[2].startswith("| float32 | 0.5000 (")
    assert lines[2].endswith("| – | – | 3 |")
    assert "| +0.0200 (" in lines[3]
    assert lines[3].endswith("| 0, 1, 2 | 2^0, 2^1, 2^2 | 3 |")


def test_only_seeds_that_are_done_count() -> None:
    runs = {f"text | {name} | 0": run_of(1.0, 0.5) for name in ("float32", "bfloat16")} | {
        "text | float32 | 1": run_of(3.0, 0.1)
    }
    row = experiment.row_of(runs, "text", "bfloat16", (0, 1, 2))
    assert (row["seeds"], row["loss"][0], row["loss difference"][0]) == (1, 1.0, 0.0)
    assert "not done yet" in experiment.table([experiment.row_of(runs, "text", "float16, dynamic", (0, 1, 2))])


def test_a_run_that_broke_down_says_so() -> None:
    runs = {f"text | {name} | 0": run_of(1.0, 0.5) for name in experiment.configurations("text")}
    runs["text | bfloat16 | 0"] = {"broke": "training broke down at step 7", "seconds": 1.0}
    row = experiment.row_of(runs, "text", "bfloat16", (0,))
    assert "1 of 1: training broke down at step 7" in experiment.table([row])


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def train(task: Any, seed: int, steps: int) -> dict[str, Any]:
        trained.append(seed)
        return run_of(float(seed), 0.5)

    monkeypatch.setattr(experiment, "train", train)
    path, names = tmp_path / "runs.json", [("text", "float32", seed) for seed in (0, 1)]
    experiment.run_all(names[:1], path, SETTING, fresh=False)
    runs = experiment.run_all(names, path, SETTING, fresh=False)
    assert trained == [0, 1]
    assert runs["text | float32 | 1"]["loss"] == 1.0
    experiment.run_all(names[:1], path, SETTING, fresh=True)
    experiment.run_all(names[:1], path, SETTING | {"other": 1}, fresh=False)
    assert trained == [0, 1, 0, 0]


def test_spikes_are_rare_and_large() -> None:
    images, labels = jnp.ones((2, 8, 8, 1)), jnp.zeros(2, jnp.int32)
    spike = jax.jit(lambda key: experiment.spiky(key, images, labels)[0].max())
    largest = np.array([float(spike(jax.random.key(seed))) for seed in range(300)])
    assert set(largest) == {1.0, experiment.SPIKE_FACTOR}
    assert 0.003 < (largest > 1).mean() < 0.05


def test_the_text_is_real_and_cut_into_rows() -> None:
    rows = windows(16, characters=1000)
    assert rows.shape == (62, 17)
    read = "".join(ALPHABET[token] for token in np.concatenate([rows[0, :1], *(row[1:] for row in rows)]))
    allowed = "".join(character if character in ALPHABET else "?" for character in text()[:993])
    assert read == allowed


@pytest.mark.slow
def test_overflow_on_purpose_is_survived_and_curves_are_drawn(tmp_path: Path) -> None:
    tiny = Transformer(width=16, heads=2, blocks=1)
    scale = dynamic_loss_scale(init_scale=2.0**28, max_scale=2.0**28)
    task = text_task(length=8, characters=1000, model=tiny, policy="float16", loss_scale=scale)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm mixes float16 and float32
        run = experiment.train(task, seed=0, steps=30)
    assert 2 < run["skipped"] < 20
    assert run["scale"] == 2.0 ** (28 - run["skipped"])
    assert run["curve"][-1] < run["curve"][0]
    assert len(run["curve"]) == len(run["scales"]) == 3
    runs = {"text | float16, dynamic | 0": run, "text | float32 | 0": {"broke": "at once"}}
    assert experiment.plot(runs, ["text"], [0], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_breakdown_is_caught_as_data() -> None:
    task = make_tiny_task().replace(loss=lambda logits, labels: jnp.log(0 * logits.sum(axis=1) - 1.0))
    assert experiment.train(task, seed=0, steps=3)["broke"].startswith("training broke down at step")
