"""The runner of public projects: notebooks as scripts, stand-in data, glue counted, claims with their verdicts."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxrecipe as jr
from experiments.projects import table
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
