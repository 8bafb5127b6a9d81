"""`jaxrecipe watch`: the step is found in a script of any style, and what cannot be watched is said."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxrecipe.__main__ import main
from tests import scripts

ONLY = ["--only", "finite_inputs,fix_random_seed", "--no-cache"]
REAL = jax.jit, jax.grad


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to stand in, in which nothing is known of the scripts of other tests."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("steps", None)
    yield tmp_path
    assert (jax.jit, jax.grad) == REAL
    assert not any(str(tmp_path) in entry for entry in sys.path)


def environment() -> dict[str, str]:
    """In which this package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def watch(folder: Path, source: str, *options: str, arguments: tuple[str, ...] = ()) -> tuple[int, dict]:
    """The exit code and the report of a script."""
    (folder / "train.py").write_text(source)
    (folder / "report.json").unlink(missing_ok=True)
    code = main(["watch", *(options or ONLY), "--json", "report.json", "train.py", *arguments])
    written = folder / "report.json"
    return code, json.loads(written.read_text()) if written.exists() else {}


@pytest.mark.parametrize("style", scripts.STYLES)
def test_the_step_is_found_in_every_style(style, here, capsys):
    (here / "steps.py").write_text(scripts.STEPS)
    code, report = watch(here, scripts.STYLES[style])
    out, err = capsys.readouterr()
    assert code == 0, out + err
    assert report["task"] == scripts.STEP_OF[style]
    assert {result["name"]: result["status"] for result in report["results"]} == {
        "finite_inputs": "PASS",
        "fix_random_seed": "PASS",
    }


def test_the_script_is_run_as_python_runs_it_and_ended_early(here, capsys):
    code, _ = watch(here, scripts.TRAIN_STATE, *ONLY, "--batches", "5", arguments=("--epochs", "1"))
    out, err = capsys.readouterr()
    assert (code, "epochs" in out) == (0, False), err
    code, report = watch(here, scripts.TRAIN_STATE, *ONLY, "--batches", "5", "--continue", arguments=("--epochs", "2"))
    assert (code, "epochs 2" in capsys.readouterr().out) == (0, True)
    assert any("5 calls of train_step (jax.jit; train.py, line" in note for note in report["notes"])


def test_a_script_that_catches_exceptions_is_ended_all_the_same(here, capsys):
    code, _ = watch(here, scripts.LOADER, *ONLY, "--batches", "3")
    out = capsys.readouterr().out
    assert code == 0
    assert "swallowed" not in out
    assert "cleaned up" in out


def test_lines_that_enable_more_are_python_with_the_names_of_the_step(here, capsys):
    code, _ = watch(here, scripts.TRAIN_STATE, "--only", "labels,loss_at_init,reference_step,split_shift", "--no-cache")
    assert code == 0
    lines = capsys.readouterr().out.partition("To enable them:")[2]
    compile("\n".join(line[4:] for line in lines.splitlines()), "lines", "exec")
    for line in ("jr.Task.from_step(train_step, state, batches)", "jr.linen(module)", "state.tx", "jr.Classes(3)"):
        assert line in lines
    assert lines.count("model=") == 1


def test_a_module_is_run_as_python_m_runs_it(here, capsys):
    (here / "steps.py").write_text(scripts.STEPS)
    (here / "project").mkdir()
    (here / "project" / "__init__.py").write_text("")
    (here / "project" / "__main__.py").write_text("from . import other\n" + scripts.IMPORTED)
    (here / "project" / "other.py").write_text("")
    code = main(["watch", *ONLY, "--json", "report.json", "-m", "project"])
    assert code == 0, capsys.readouterr().err
    sys.modules.pop("project", None)


@pytest.mark.parametrize("step", ["update", "train:update"])
def test_a_step_of_plain_python_is_watched_by_name(step, here, capsys):
    source = scripts.PLAIN
    code, _ = watch(here, source)
    err = capsys.readouterr().err
    assert code == 2
    assert "cross_entropy" in err
    assert "--step NAME" in err
    if ":" in step:
        (here / "steps.py").write_text(source.partition("opt_state = tx.init")[0])
        source, step = scripts.IMPORTED.replace("train_step", "update").replace("bx, by)", "(bx, by))"), "steps:update"
    code, report = watch(here, source.replace("(bx, by) in", "bx, by in"), *ONLY, "--step", step)
    assert code == 0, capsys.readouterr().err
    assert report["task"] == "update"


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("1 / 0", (), ["ZeroDivisionError", "line 1", "Nothing that it compiled was called", "raised"]),
        ("print('nothing')", (), ["no training step was seen", "No function compiled"]),
        ("import sys; sys.exit(3)", (), ["no training step was seen"]),
        (
            scripts.PIECES.replace("in batches()", "in [(x, y)]"),
            (),
            ["train_step (jax.jit; train.py", "1 call;", "twice"],
        ),
        ("import jax\nf = jax.jit(lambda x: x * 1)\nfor i in range(9): f(1.0)", (), ["9 calls"]),
        (scripts.PIECES, ("--step", "train_stepp"), ["defines no function", "did you mean train_step"]),
        (scripts.PIECES, ("--step", "tx"), ["tx was never called"]),
        (scripts.PIECES, ("--loss", "missing"), ["gives no 'missing'"]),
    ],
)
def test_what_cannot_be_watched_is_bad_usage_and_says_what_was_seen(source, options, words, here, capsys):
    code, _ = watch(here, source, *ONLY, *options)
    err = capsys.readouterr().err
    assert code == 2, err
    for word in words:
        assert word in err


def test_a_missing_script_is_bad_usage(here, capsys):
    assert main(["watch", "nowhere.py"]) == 2
    assert main(["watch", "-m", "nowhere_at_all"]) == 2
    assert "there is no file nowhere.py" in capsys.readouterr().err


def test_an_error_of_the_script_is_shown_without_our_frames(here, capsys):
    code, _ = watch(here, scripts.PIECES.replace("    evaluate(params, x, y)", "    undefined"))
    err = capsys.readouterr().err
    assert code == 2
    assert "NameError" in err
    assert "jaxrecipe/" not in err
    assert "train_step (jax.jit" in err


def test_from_a_shell_with_a_thread_that_never_ends(here):
    endless = "import threading, time\nthreading.Thread(target=lambda: time.sleep(600)).start()\n"
    (here / "train.py").write_text(endless + scripts.PIECES)
    command = [sys.executable, "-m", "jaxrecipe", "watch", *ONLY, "train.py"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr
    assert "2 passed" in done.stdout


GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "watch.md").read_text(encoding="utf-8")
README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SCRIPT, FROM_STEP = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_the_guide_is_right(here, capsys):
    with jax.numpy_dtype_promotion("standard"):
        code, report = watch(here, SCRIPT, *ONLY, arguments=("--epochs", "3"))
    assert code == 0, capsys.readouterr().err
    told = re.findall(r"^\d+ calls of .*?params\.$", GUIDE, re.DOTALL | re.MULTILINE)
    assert told[0].replace("\n", " ") in report["notes"]
    names: dict = {}
    exec(FROM_STEP, names)
    assert names["report"].ok
    (shown,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "from_step" in block)
    exec(
        shown.replace("batches))", "batches), only=['finite_inputs'])"),
        {**names, "opt_state": names["optimizer"].init(names["params"])},
    )


LOST = scripts.NNX.replace("@nnx.jit\ndef train_step", "@jax.jit\ndef train_step").replace(
    "    metrics.update(loss=loss)\n    opt", "    opt"
)


def test_nnx_objects_that_are_changed_under_jax_jit_are_told(here, capsys):
    code, _ = watch(here, LOST)
    err = capsys.readouterr().err
    assert code == 2
    assert "neither gives back nor changes" in err
    assert "nnx.jit" in err


def test_no_data_are_judged_where_the_step_is_given_none(here):
    source = scripts.DATA + (
        "step = jax.jit(lambda params: updated(params, tx.init(params), x, y)[0])\n"
        "for _ in range(5):\n    params = step(params)\n"
    )
    code, report = watch(here, source, "--only", "finite_inputs,duplicates,visualize_just_before_the_net", "--no-cache")
    assert code == 0
    assert {result["status"] for result in report["results"]} == {"SKIP"}


PLANTED = {
    "learning rate 0": (
        scripts.PIECES.replace("optax.sgd(0.1, momentum=0.9)", "optax.sgd(0.0)"),
        "carries_state",
        "step/updates-thrown-away",
    ),
    "optimizer state dropped": (
        scripts.PIECES.replace("donate_argnums=(0, 1), ", "").replace(
            "params, opt_state, loss = train_step", "params, _, loss = train_step"
        ),
        "carries_state",
        "step/optimizer-state-lost",
    ),
    "one key for all steps": (
        scripts.EQUINOX.replace("key, sub = jax.random.split(key)", "sub = key").replace(
            "loss, grads = eqx",
            "x = jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x, 0)\n        loss, grads = eqx",
        ),
        "draws_anew",
        "step/key-reused",
    ),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug, here, capsys):
    source, check, code = PLANTED[bug]
    assert source not in (scripts.PIECES, scripts.EQUINOX)
    exit_code, report = watch(here, source, "--only", check, "--no-cache")
    assert exit_code == 1, capsys.readouterr().err
    (result,) = report["results"]
    assert code in [finding["code"] for finding in result["findings"]]
