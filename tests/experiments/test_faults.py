"""The fault benchmark: the accounting adds up, the runner keeps what it has run, and the peers are given the same
cases."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.faults.__main__ import SMOKE, all_cases, chosen
from experiments.faults.cache import Cache
from experiments.faults.case import OWN, Case, Check, Outcome, check_of, from_json, run_case, to_json
from experiments.faults.peers import PEERS, installed
from experiments.faults.pool import run_all
from experiments.faults.score import Scores, Share
from experiments.faults.table import markdown, to_data
from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.controls import CONTROLS
from jaxrecipe.catalogue.table import FAULTS
from jaxrecipe.diagnosis.finding import failure, warning
from jaxrecipe.report.result import Result

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def outcome(
    name: str,
    *checks: tuple[str, str, tuple[str, ...]],
    causes: tuple[str, ...] = (),
    kind: str = "fault",
    seed: int = 0,
    tool: str = OWN,
) -> Outcome:
    """A made-up outcome; each check is its name, status and the causes of its only finding; `causes` are the
    report's."""
    said = tuple(
        Check(check, status, f"{check} spoke.", codes=codes[:1], causes=(codes,) if codes else ())
        for check, status, codes in checks
    )
    return Outcome(Case(tool, kind, name, seed), said, causes=causes, seconds=2.0, facts={"commit": "abc"})


class TestCases:
    def test_the_smoke_subset_is_part_of_the_benchmark(self) -> None:
        assert {case.name for case in chosen(None, smoke=True)} == set(SMOKE)
        assert {case.name for case in all_cases()} >= set(SMOKE)

    def test_a_number_chooses_its_variants(self) -> None:
        assert [case.name for case in chosen(["17"], smoke=False) if case.tool == OWN] == [
            "17a_softmax_in_model",
            "17b_softmax_in_loss",
            "17c_sigmoid_twice",
        ]


class TestAccounting:
    FAULT = "24b_error_sign_flipped"
    RIGHT, WRONG = "loss/sign-flipped", "model/dead-units"

    @pytest.mark.parametrize("place", [1, 2, 3, 4, None])
    def test_the_right_cause_counts_by_its_place_in_the_report(self, place: int | None) -> None:
        causes = [self.WRONG, "loss/flat", "loss/clipped", "loss/broadcast"]
        if place is not None:
            causes.insert(place - 1, self.RIGHT)
        scores = Scores([outcome(self.FAULT, ("updates", "FAIL", (self.WRONG,)), causes=tuple(causes))])
        assert scores.found.part == 1
        assert scores.top_1.part == (place == 1)
        assert scores.top_3.part == (place in (1, 2, 3))

    def test_each_accepted_cause_is_right(self) -> None:
        fault = next(fault for fault in FAULTS if len(fault.causes) == 3)
        for code in fault.causes:
            assert Scores([outcome(fault.name, ("updates", "FAIL", (code,)), causes=(code,))]).top_1.part == 1

    @pytest.mark.parametrize(("first", "second", "right"), [(RIGHT, WRONG, 1), (WRONG, RIGHT, 0)])
    def test_by_check_the_first_that_fails_decides(self, first: str, second: str, right: int) -> None:
        quiet = ("labels", "WARN", (self.RIGHT,))
        failing = (("updates", "FAIL", (first, second)), ("loss_at_init", "FAIL", (self.RIGHT,)))
        assert Scores([outcome(self.FAULT, quiet, *failing)]).first_check.part == right

    def test_a_failure_without_causes_is_found_and_names_nothing(self) -> None:
        scores = Scores([outcome(self.FAULT, ("updates", "FAIL", ()))])
        assert (scores.found.part, scores.top_3.part, scores.first_check.part) == (1, 0, 0)

    def test_a_warning_is_not_found_and_names_nothing(self) -> None:
        warned = outcome(self.FAULT, ("loss_at_init", "WARN", (self.RIGHT,)), causes=(self.RIGHT,))
        scores = Scores([warned])
        assert (scores.found.part, scores.top_1.part, scores.warned_only.part) == (0, 0, 1)

    def test_a_crash_is_an_alarm_on_a_control_and_no_find_on_a_fault(self) -> None:
        crash = ("updates", "CRASHED", ())
        scores = Scores([outcome(self.FAULT, crash), outcome("table_mlp", crash, kind="control")])
        assert (scores.found.part, scores.alarms.part) == (0, 1)

    def test_other_tools_are_counted_apart(self) -> None:
        made = [outcome(self.FAULT, ("x", "FAIL", ()), tool=PEERS[0]), outcome(self.FAULT, ("x", "PASS", ()))]
        assert Scores(made).found.part == 0
        assert Scores(made).of(PEERS[0]).found.part == 1

    def test_the_interval_is_wilsons(self) -> None:
        z, n, p = 1.959964, 20, 0.95
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        wanted = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
        np.testing.assert_allclose(Share(19, 20).interval, wanted, rtol=1e-5)

    def test_what_a_check_finds_alone(self) -> None:
        both = outcome("17a_softmax_in_model", ("a", "FAIL", ()), ("b", "FAIL", ()))
        assert Scores([both, outcome(self.FAULT, ("b", "FAIL", ()))]).alone() == {"b": [self.FAULT]}

    def test_the_tables_hold_every_fault_and_control(self) -> None:
        made = [outcome(fault.name, ("updates", "FAIL", fault.causes), causes=fault.causes) for fault in FAULTS]
        made += [outcome(control.name, ("updates", "WARN", ()), kind="control") for control in CONTROLS]
        page, data = markdown(Scores(made)), to_data(Scores(made))
        for fault in FAULTS:
            assert fault.title.replace("|", "/") in page
        for control in CONTROLS:
            assert f"| {control.name} |" in page
        totals = json.loads(json.dumps(data))["totals"][OWN]
        assert [totals[name]["part"] for name in ("found", "top_1", "top_3", "by_check_top_1")] == [len(FAULTS)] * 4

    def test_the_tables_say_what_was_named_instead(self) -> None:
        page = markdown(Scores([outcome(self.FAULT, ("updates", "FAIL", (self.WRONG,)), causes=(self.WRONG,))]))
        assert f"| not named | {self.RIGHT} | {self.WRONG} | updates FAIL: updates spoke. |" in page


class TestRunner:
    def test_outcomes_survive_the_cache_and_a_cut_line_is_left_out(self, tmp_path: Path) -> None:
        cache, made = (
            Cache(tmp_path, "label"),
            outcome(TestAccounting.FAULT, ("updates", "FAIL", ("loss/flat", "loss/clipped")), causes=("loss/flat",)),
        )
        cache.add(made)
        with cache.path.open("a") as file:
            file.write(
                json.dumps({**vars(made.case), "seconds": 1.0, "checks": [{"finding": "of another format"}]}) + "\n"
            )
            file.write('{"tool": "jaxre')
        again = Cache(tmp_path, "label")
        assert again.outcomes == {made.case: made}
        assert Cache(tmp_path, "other").outcomes == {}
        assert from_json(to_json(made)) == made

    def test_a_result_is_kept_by_its_codes(self) -> None:
        found = (warning("model/dead-units", "Half are dead."), failure("loss/flat", "No gradient."))
        kept = check_of(Result(name="updates", summary="", findings=found, seconds=1.5))
        assert (kept.name, kept.status, kept.seconds) == ("updates", "FAIL", 1.5)
        assert kept.codes == ("loss/flat", "model/dead-units")
        assert kept.causes == (("loss/flat",), ("model/dead-units",))

    def test_a_task_that_is_refused_is_found_by_validate(self) -> None:
        found = run_case(Case(OWN, "fault", "04b_labels_divided_to_fractions", 0))
        assert [check.name for check in found.failed] == ["validate"]
        assert found.causes == ("data/labels-scaled",)

    def test_the_codes_of_what_is_refused_are_its_causes(self) -> None:
        found = run_case(Case(OWN, "fault", "21b_labels_reduced_over_batch", 0))
        assert (found.causes, found.failed[0].codes) == (("loss/wrong-axis",), ("loss/wrong-axis",))
        assert Scores([found]).top_1.part == Scores([found]).first_check.part == 1

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
