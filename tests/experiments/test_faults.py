"""The fault benchmark: the catalogue is whole, its parts are right, and the accounting adds up."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrecipe as jr
from experiments.faults import bases, real_data
from experiments.faults.__main__ import SMOKE, all_cases, chosen
from experiments.faults.cache import Cache
from experiments.faults.case import OWN, Case, Check, Outcome, from_json, run_case, to_json
from experiments.faults.catalogue import FAULTS, Fault
from experiments.faults.controls import CONTROLS
from experiments.faults.own_loop import with_own_loop
from experiments.faults.peers import PEERS, installed
from experiments.faults.pool import run_all
from experiments.faults.score import Scores, Share
from experiments.faults.table import markdown, to_data

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def outcome(name: str, *checks: tuple[str, str, str], kind: str = "fault", seed: int = 0, tool: str = OWN) -> Outcome:
    """A made-up outcome; each check is its name, status and hint."""
    told = tuple(Check(check, status, "", hint) for check, status, hint in checks)
    return Outcome(Case(tool, kind, name, seed), told, seconds=2.0, facts={"commit": "abc"})


class TestCatalogue:
    def test_all_64_numbers_are_there(self) -> None:
        assert {fault.number for fault in FAULTS} == set(range(1, 65))

    def test_names_are_unique_and_in_order(self) -> None:
        names = [fault.name for fault in FAULTS] + [control.name for control in CONTROLS]
        assert len(set(names)) == len(names)
        assert [fault.number for fault in FAULTS] == sorted(fault.number for fault in FAULTS)

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
    def test_each_says_what_is_wrong_and_how_it_is_told(self, fault: Fault) -> None:
        assert fault.title.endswith(".")
        assert fault.caught_by
        assert fault.category
        for word in fault.words:
            assert re.compile(word)
            assert word == word.lower().replace(r"\w", r"\W") or r"\W" in word  # messages are compared in lower case

    def test_no_hint_is_right_for_everything(self) -> None:
        assert not [
            fault.name for fault in FAULTS if fault.named_in("Something is odd. Look at your model and your data.")
        ]

    def test_at_least_24_kinds_of_controls(self) -> None:
        assert len(CONTROLS) >= 24

    def test_the_smoke_subset_is_part_of_the_benchmark(self) -> None:
        assert {case.name for case in chosen(None, smoke=True)} == set(SMOKE)
        assert {case.name for case in all_cases()} >= set(SMOKE)


class TestTasks:
    @pytest.mark.slow
    @pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
    def test_controls_are_valid(self, control: Any) -> None:
        with jax.numpy_dtype_promotion("standard"):  # the set-ups are written as users write theirs
            jr.validate(control.make(1))

    @pytest.mark.parametrize(
        "fault", [f for f in FAULTS if f.on in (bases.table_mlp, bases.three_parameters)], ids=lambda f: f.name
    )
    def test_planting_leaves_the_healthy_task_as_it_was(self, fault: Fault) -> None:
        task = fault.on(0)
        before = jax.tree.map(np.array, task.train)
        broken = fault.plant(task)
        assert broken is not task
        jax.tree.map(np.testing.assert_array_equal, before, task.train)

    def test_the_seed_changes_the_split(self) -> None:
        assert not np.array_equal(bases.picture_mlp(0).train[1], bases.picture_mlp(1).train[1])


class TestRealData:
    def test_next_characters_are_the_characters_one_later(self) -> None:
        (tokens, targets), _ = real_data.snippets(0)
        np.testing.assert_array_equal(tokens[:, 1:], targets[:, :-1])
        assert tokens.min() >= 1
        assert tokens.max() < real_data.VOCABULARY

    def test_phrases_end_in_padding_only(self) -> None:
        (tokens, _), _ = real_data.phrases(0)
        padded = tokens == 0
        assert 0.1 < padded.mean() < 0.9
        assert (np.diff(padded.astype(int), axis=1) >= 0).all()

    def test_no_row_of_text_is_on_both_sides(self) -> None:
        (train, _), (test, _) = real_data.snippets(0)
        assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}

    def test_centre_of_a_single_pixel(self) -> None:
        image = np.zeros((1, 8, 8, 1), np.uint8)
        image[0, 2, 5] = 100
        np.testing.assert_allclose(real_data.centre(image), [[5.0, 2.0]])

    def test_traits_of_a_nine(self) -> None:
        np.testing.assert_array_equal(real_data.traits(np.array([9]))[0], [0, 1, 1, 0, 1])


class TestOwnLoop:
    def test_evaluation_counts_every_example_once(self) -> None:
        task = with_own_loop(bases.three_parameters(0))
        loop: Any = task.loop
        state = loop.init(jax.random.key(0))
        x, y = task.test
        kernel, bias = (np.asarray(state["params"]["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
        wanted = np.mean(((x.astype(np.float64) @ kernel + bias)[:, 0] - y) ** 2)
        for size in (1, 7, 1000):
            assert loop.evaluate(state, jnp.asarray(x), jnp.asarray(y), size)["loss"] == pytest.approx(wanted, rel=1e-5)

    def test_a_checkpoint_holds_everything(self, tmp_path: Path) -> None:
        loop: Any = with_own_loop(bases.three_parameters(0)).loop
        x, y = bases.three_parameters(0).train
        moved, _ = loop.step(loop.init(jax.random.key(0)), jnp.asarray(x[:32]), jnp.asarray(y[:32]), jax.random.key(1))
        loop.save(moved, str(tmp_path))
        back = loop.restore(str(tmp_path), loop.init(jax.random.key(5)))
        jax.tree.map(np.testing.assert_array_equal, moved, back)

    def test_batches_are_an_epoch_in_another_order_each_time(self) -> None:
        task = with_own_loop(bases.three_parameters(0))
        loop: Any = task.loop
        first, second = ([inputs for inputs, _ in loop.batches(epoch)] for epoch in (0, 1))
        assert not np.array_equal(first[0], second[0])
        rows = np.concatenate(first)
        assert len(rows) == len(task.train[0]) // 32 * 32
        assert len(np.unique(rows, axis=0)) <= len(rows)


class TestAccounting:
    FAULT = "24b_error_sign_flipped"

    def test_the_hint_of_any_failing_check_counts_and_the_first_is_told_apart(self) -> None:
        made = outcome(self.FAULT, ("updates", "FAIL", "dead"), ("loss_at_init", "FAIL", "The sign is flipped"))
        scores = Scores([made])
        assert (scores.found.part, scores.named.part, scores.named_first.part) == (1, 1, 0)

    def test_a_warning_is_not_found_and_names_nothing(self) -> None:
        scores = Scores([outcome(self.FAULT, ("loss_at_init", "WARN", "The sign is flipped"))])
        assert (scores.found.part, scores.named.part, scores.warned_only.part) == (0, 0, 1)

    def test_a_crash_is_an_alarm_on_a_control_and_no_find_on_a_fault(self) -> None:
        crash = ("updates", "CRASHED", "")
        scores = Scores([outcome(self.FAULT, crash), outcome("table_mlp", crash, kind="control")])
        assert (scores.found.part, scores.alarms.part) == (0, 1)

    def test_other_tools_are_counted_apart(self) -> None:
        made = [outcome(self.FAULT, ("x", "FAIL", ""), tool=PEERS[0]), outcome(self.FAULT, ("x", "PASS", ""))]
        assert Scores(made).found.part == 0
        assert Scores(made).of(PEERS[0]).found.part == 1

    def test_the_interval_is_wilsons(self) -> None:
        z, n, p = 1.959964, 20, 0.95
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        wanted = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
        np.testing.assert_allclose(Share(19, 20).interval, wanted, rtol=1e-5)

    def test_what_a_check_finds_alone(self) -> None:
        both = outcome("17a_softmax_in_model", ("a", "FAIL", ""), ("b", "FAIL", ""))
        assert Scores([both, outcome(self.FAULT, ("b", "FAIL", ""))]).alone() == {"b": [self.FAULT]}

    def test_the_tables_hold_every_fault_and_control(self) -> None:
        made = [outcome(fault.name, ("updates", "FAIL", "sign")) for fault in FAULTS]
        made += [outcome(control.name, ("updates", "WARN", ""), kind="control") for control in CONTROLS]
        page, data = markdown(Scores(made)), to_data(Scores(made))
        for fault in FAULTS:
            assert fault.title.replace("|", "/") in page
        for control in CONTROLS:
            assert f"| {control.name} |" in page
        assert json.loads(json.dumps(data))["totals"][OWN]["found"]["total"] == len(FAULTS)


class TestRunner:
    def test_outcomes_survive_the_cache_and_a_cut_line_is_left_out(self, tmp_path: Path) -> None:
        cache, made = Cache(tmp_path, "label"), outcome("table_mlp", ("updates", "PASS", ""), kind="control")
        cache.add(made)
        with cache.path.open("a") as file:
            file.write('{"tool": "jaxre')
        again = Cache(tmp_path, "label")
        assert again.outcomes == {made.case: made}
        assert Cache(tmp_path, "other").outcomes == {}
        assert from_json(to_json(made)) == made

    def test_a_task_that_is_refused_is_found_by_validate(self) -> None:
        found = run_case(Case(OWN, "fault", "04b_labels_divided_to_fractions", 0))
        assert [check.name for check in found.failed] == ["validate"]

    @pytest.mark.slow
    def test_workers_report_errors_and_are_ended_when_late(self) -> None:
        cases, seen = [Case(OWN, "fault", "no such fault", 0), Case(OWN, "control", "resnet", 0)], []
        run_all(cases[:1], workers=1, limit=120.0, started=lambda _: None, done=seen.append)
        run_all(cases[1:], workers=1, limit=0.2, started=lambda _: None, done=seen.append)
        assert "KeyError" in seen[0].stopped
        assert "took more than" in seen[1].stopped


class TestPeers:
    def test_without_a_peer_nothing_is_expressed(self) -> None:
        assert not installed("no-such-package")

    @pytest.mark.skipif(not all(map(installed, PEERS)), reason="pip install jaxrecipe[fault-peers]")
    def test_their_models_give_outputs_of_the_same_form(self) -> None:
        import torch

        from experiments.faults.peers.run_peers import values_of
        from experiments.faults.peers.torch_cases import BASES, case_batch

        for name in ("convnet", "recurrent", "transformer", "segmentation", "two_inputs", "autoencoder"):
            task = getattr(bases, name)(0)
            inputs, _ = case_batch(name, 0)
            model = BASES[name].model(values_of(inputs))
            with torch.no_grad():
                outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
            given = jax.tree.map(lambda leaf: jnp.asarray(leaf.numpy()), inputs)
            if name == "transformer":
                given = given.astype(jnp.int32)
            shape = jax.eval_shape(
                lambda key, x, model=task.model: model.apply(*model.init(key, x), x, train=False, key=None)[0],
                jax.random.key(0),
                given,
            )
            assert tuple(outputs.shape) == shape.shape, name

    @pytest.mark.skipif(not all(map(installed, PEERS)), reason="pip install jaxrecipe[fault-peers]")
    def test_what_cannot_be_expressed_has_a_reason(self) -> None:
        from experiments.faults.peers.torch_cases import WHY_NOT, case_parts

        explained = {number for _, _, numbers in WHY_NOT for number in numbers}
        left = [fault.name for fault in FAULTS if case_parts(fault.name) is None and fault.number not in explained]
        assert not left


@pytest.mark.slow
def test_the_command_finds_a_fault_and_keeps_what_it_has_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.faults", "--cache", str(tmp_path), "--label", "test"]
    command += ["--only", "jaxrecipe/fault/22_column_against_row/0", "jaxrecipe/fault/08_nan_in_inputs/0"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "found           2 of 2" in first.stdout
    kept = (tmp_path / "test.jsonl").read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "found           2 of 2" in again.stdout
    assert (tmp_path / "test.jsonl").read_text() == kept
