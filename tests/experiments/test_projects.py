"""The runner of public projects: notebooks as scripts, stand-in data, glue counted, claims with their verdicts."""

import gzip
import importlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxrecipe as jr
from experiments.projects import table
from experiments.projects.digits import write_idx
from experiments.projects.project import HERE, Project, script_of
from experiments.projects.projects import PROJECTS
from experiments.projects.run import Outcome, run


def project(**facts):
    given = {"name": "made_up", "repository": "owner/name", "commit": "0" * 40, "about": "nothing", "script": "a.py"}
    return Project(**{**given, **facts})


def test_the_code_cells_of_a_notebook_are_a_script(tmp_path: Path):
    cells = [
        {"cell_type": "markdown", "source": ["words"]},
        {"cell_type": "code", "source": ["!pip install x\n", "a = 1"]},
        {"cell_type": "code", "source": ["b = 2"]},
    ]
    folder = tmp_path / "owner+name"
    folder.mkdir()
    (folder / "a.ipynb").write_text(json.dumps({"cells": cells}))
    made = script_of(project(script="a.ipynb", cells=(0,)), tmp_path, tmp_path)
    assert made.read_text().split() == ["a", "=", "1"]


def test_changes_of_a_script_stand_in_it_once_and_are_glue(tmp_path: Path):
    folder = tmp_path / "owner+name"
    folder.mkdir()
    (folder / "a.py").write_text("width = 1024\n")
    changed = project(changes=(("width = 1024", "width = 8"),))
    assert script_of(changed, tmp_path, tmp_path).read_text() == "width = 8\n"
    assert changed.glue_lines == 1
    with pytest.raises(ValueError, match="wanted it once"):
        script_of(project(changes=(("depth", "d"),)), tmp_path, tmp_path)


def test_mnists_own_files_hold_the_digits(tmp_path: Path):
    images, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    write_idx(images)
    write_idx(labels)
    assert struct.unpack(">IIII", gzip.decompress(images.read_bytes())[:16]) == (0x803, 1438, 28, 28)
    assert struct.unpack(">II", gzip.decompress(labels.read_bytes())[:8]) == (0x801, 1438)
    sys.modules.pop("tensorflow_datasets")


def test_idle_modules_do_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(HERE / "stand_in")
    idle = importlib.import_module("idle")
    finder = idle.IdleFinder(["no_such_logger"])
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    below = importlib.import_module("no_such_logger.some.part")
    with below.Writer("run") as writer:
        writer.log({"loss": 1.0})
    assert not below.exists("run")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("no_such_logger", "idle")]:
        del sys.modules[name]


def test_a_project_that_is_not_there_is_told(tmp_path: Path):
    outcome = run(project(), tmp_path)
    assert outcome.report is None
    assert "owner+name" in outcome.error


def test_projects_have_names_of_their_own_and_their_glue():
    assert len({one.name for one in PROJECTS}) == len(PROJECTS)
    assert all(len(one.commit) == 40 for one in PROJECTS)
    assert all(one.how == "watch" or one.glue.is_file() for one in PROJECTS)
    assert all(one.glue_lines <= 20 for one in PROJECTS)


def test_every_claim_stands_in_the_table_with_its_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    findings = (jr.failure("loss/flat", "It is flat."), jr.warning("model/dead-units", "Some are dead."))
    result = jr.Result(name="updates", summary="", findings=findings)
    report = jr.Report(task="t", results=(result,), seed=0, seconds=1.0, programs=3, versions={}, notes=())
    verdicts = tmp_path / "verdicts.json"
    verdicts.write_text(json.dumps({"made_up": {"loss/flat": {"true": False, "proof": "it learns"}}}))
    monkeypatch.setattr(table, "VERDICTS", verdicts)
    [row] = table.rows([project()], {"made_up": Outcome("made_up", report, 2.0)})
    assert [(claim["code"], claim["verdict"]) for claim in row["findings"]] == [
        ("loss/flat", "false"),
        ("model/dead-units", "open"),
    ]
    assert "loss/flat (false)" in table.markdown([row])
    table.write([row], tmp_path)
    verdicts.write_text(json.dumps({"made_up": {"model/dead-units": {"true": True, "proof": "they are"}}}))
    other = project(name="other")
    found = table.rows([other], {"other": Outcome("other", report, 2.0)})
    before, new = table.stored(found, [project(), other], tmp_path)
    assert [claim["verdict"] for claim in before["findings"]] == ["open", "true"]
    assert new["name"] == "other"
    assert table.totals([before, new]).startswith("2 of 2 projects ran")


def test_the_stand_in_pipeline_gives_what_the_real_one_would(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(HERE / "stand_in")
    monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)
    stand_in = importlib.import_module("tensorflow_datasets")
    train, test = stand_in.load("mnist", split=["train", "test"])
    assert len(train) + len(test) == 1797
    first = next(iter(train.shuffle(10, seed=0).batch(32, drop_remainder=True)))
    assert first["image"].shape == (32, 28, 28, 1)
    assert first["image"].dtype == np.uint8
    assert len(list(train.batch(1000))) == 2
    assert [len(batch["label"]) for batch in train.batch(1000).repeat(2)] == [1000, 438, 1000, 438]
    monkeypatch.delitem(sys.modules, "tensorflow_datasets")
