"""The benchmark's own parts on made-up measurements, and one tiny cell for real."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dpn_precision import __main__ as runner
from experiments.dpn_precision import processes, report
from experiments.dpn_precision.cells import ARTICLE, MODELS, TINY, Cell, epoch_log, log_line, matrix
from experiments.dpn_precision.costs import kept_values, peak_flops, training_flops
from experiments.dpn_precision.images import indices, load
from jaxrecipe.models import DPN, DPN26, DPN92


def visit(**changes):
    usual = {
        "outcome": "ran",
        "device": "cpu",
        "step_seconds": [0.1, 0.2, 0.3],
        "compile_seconds": 4.0,
        "peak_bytes": 2_000_000_000,
        "policy_share": 0.5,
        "skipped": 1,
        "flops_a_step": 1e9,
        "peak_flops": 1e11,
        "peak_flops_from": "data sheet",
    }
    return {**usual, **changes}


def record(*visits, **cell):
    made = Cell(**{"framework": "jax", "precision": "float32", "batch": 128, **cell})
    return {"cell": made.as_dict(), "visits": list(visits)}


def test_the_arithmetic_is_that_of_the_article():
    assert training_flops(DPN92) / 1e9 == pytest.approx(12.25, abs=0.01)
    assert training_flops(DPN26) < training_flops(DPN92)


def test_arithmetic_and_activations_against_the_traced_network():
    """Every convolution and product in the jaxpr, counted by its shapes."""
    module = DPN(TINY, layout="NHWC", formulation="native")
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    jaxpr = jax.make_jaxpr(lambda v: module.apply(v, images))(variables)
    macs, outputs = 0, 0
    for equation in jaxpr.jaxpr.eqns:
        out = equation.outvars[0].aval.size
        if equation.primitive.name == "conv_general_dilated":
            rows, columns, inputs, _ = equation.invars[1].aval.shape
            macs += out * rows * columns * inputs
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            macs += out * int(np.prod([equation.invars[0].aval.shape[axis] for axis in contracted]))
    assert training_flops(TINY) == 6 * macs
    assert kept_values(TINY) > outputs


def test_log_lines_are_the_articles():
    assert log_line(50, 391, [2.351] * 51, [978], 6528) == "50 391 Loss: 2.351 | Acc: 14.982% (978/6528)"
    lines = epoch_log([2.0] * 120, [64.0] * 120, [128.0] * 120, 391)
    assert [line.split()[0] for line in lines] == ["0", "50", "100"]
    assert lines[1] == "50 391 Loss: 2.000 | Acc: 50.000% (3264/6528)"


def test_the_matrix_scales_losses_in_float16_only():
    cells = matrix(("jax", "torch"), ("float32", "float16"), (128, 256), ("128", "dynamic"))
    assert len({cell.name for cell in cells}) == len(cells) == 2 * (2 + 4)
    assert {cell.loss_scale for cell in cells if cell.precision == "float32"} == {"none"}
    assert Cell(**json.loads(json.dumps(cells[0].as_dict()))) == cells[0]


def test_the_article_preset_has_every_row_of_the_article():
    ours = {(c.framework, c.precision, c.batch, c.loss_scale) for c in runner.preset("article", "cifar10")}
    for row in ARTICLE:
        for framework in ("jax", "torch"):
            assert (framework, row.precision, row.batch, row.loss_scale) in ours


def test_rows_join_the_visits():
    row = report.row(record(visit(), visit(step_seconds=[0.2], log=["x"])))
    assert row["step_seconds"] == pytest.approx(0.2)
    assert row["images_a_second"] == pytest.approx(640)
    assert row["epoch_seconds"] == pytest.approx(50_000 * 0.2 / 128)
    assert row["mfu"] == pytest.approx(1e9 / 0.2 / 1e11)


def test_out_of_memory_is_a_result_in_both_tables():
    records = [
        record({"outcome": "out of memory", "why": "x"}, batch=512),
        record(visit(log=["350 391 Loss: 1.0"]), batch=128),
    ]
    assert "| out of memory |" in report.full_table(records)
    lines = report.article_table(records).splitlines()
    assert "3 min 33 s" in lines[2]
    assert "350 391 Loss: 1.0 | 2.00 GB |" in lines[2]
    assert lines[4].count("out of memory") == 2
    assert "not run" in lines[5]


def test_rounds_resume_and_do_not_retry_what_cannot_run():
    cells = matrix(("jax",), ("float32",), (1, 2, 3), ())
    records = {cells[0].name: record(visit()), cells[1].name: record({"outcome": "out of memory"})}
    assert {cell.batch for cell in runner.unfinished(cells, records, 0)} == {3}
    assert {cell.batch for cell in runner.unfinished(cells, records, 1)} == {1, 3}


def test_stored_cells_count_only_when_nothing_changed(tmp_path):
    path, cell = tmp_path / "r.json", Cell("jax", "float32", 8)
    runner.save(path, {"versions": {"jax": "1"}, "cells": {cell.name: record(visit(), batch=8)}})
    assert list(runner.read(path, [cell], {"jax": "1"})) == [cell.name]
    assert runner.read(path, [Cell("jax", "float32", 8, steps=99)], {"jax": "1"}) == {}
    assert runner.read(path, [cell], {"jax": "2"}) == {}


@pytest.mark.parametrize(("limit", "first"), [(1000, 64), (1000, 990), (1000, 4000), (40, 640), (10, 64)])
def test_the_search_for_the_largest_batch(limit, first):
    tried = []

    def runs(size):
        tried.append(size)
        return size <= limit

    found = runner.search(runs, first, 32)
    assert found <= limit
    assert limit - found < max(64, 0.05 * limit)
    assert len(tried) == len(set(tried)) < 40


def test_images_are_what_they_are_called():
    images, labels = load("digits", 0)
    assert images.shape[1:] == (32, 32, 3)
    assert images.dtype == np.uint8
    assert len(images) == len(labels)
    assert (images[:, ::4, ::4] == images[:, 3::4, 3::4]).all()
    assert load("random", 0)[0].shape == (2048, 32, 32, 3)
    chosen, mask = indices(0, 3, 10, 4)
    assert len(chosen) == 4
    assert mask.dtype == bool


def test_peaks_by_name():
    assert peak_flops("NVIDIA H200", "bfloat16") == 989.4e12
    assert peak_flops("a toaster", "float32") is None


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    done = [record(visit(losses=[2.0, 1.0])), record({"outcome": "failed"}, batch=1)]
    assert report.plot(done, tmp_path / "p.png", data="made up")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_process_that_fails_is_a_result():
    found = processes.run(Cell("jax", "float32", 8, model="no such model"), timeout=120.0)
    assert found["outcome"] == "failed"
    assert "KeyError" in found["why"]


@pytest.mark.slow
def test_one_tiny_cell_for_real(tmp_path):
    """Through the command line: float16 with a dynamic scale, trained, timed, resumed, written."""
    arguments = (
        "--preset matrix --model tiny --frameworks jax --precisions float16 --batches 16 --scales dynamic --data digits"
    )
    call = [sys.executable, "-m", "experiments.dpn_precision", *arguments.split(), "--steps", "2", "--train", "51"]
    call += ["--rounds", "1", "--log", "--out", str(tmp_path / "r")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=processes.ROOT, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr
    assert "50 51 Loss: " in done.stdout
    stored = json.loads((tmp_path / "r.json").read_text())
    (kept,) = stored["cells"].values()
    result = kept["visits"][0]
    assert (result["outcome"], len(result["losses"]), len(result["step_seconds"])) == ("ran", 51, 2)
    assert np.mean(result["losses"][-10:]) < np.mean(result["losses"][:10])
    assert "enlarged" in stored["data"]
    again = subprocess.run(call, capture_output=True, text=True, cwd=processes.ROOT, env={**os.environ}, check=False)
    assert "round 1" not in again.stdout
    assert MODELS["tiny"] is TINY


def test_both_frameworks_start_from_the_same_weights() -> None:
    """Each side draws its own arrays; carried over by the converter they are equal."""
    from experiments.dpn_precision.convert import to_torch
    from experiments.dpn_precision.start import for_flax, for_torch

    model = DPN(TINY)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.float32)))["params"]
    ours = to_torch({"params": for_flax(params, 0)})
    theirs = for_torch(ours, 0)
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    kernel = ours["layer1.0.conv2.weight"]
    assert kernel.std() == pytest.approx(1 / np.sqrt(3 * kernel[0].size), rel=0.05)
    assert not np.array_equal(kernel, for_torch(ours, 1)["layer1.0.conv2.weight"])
