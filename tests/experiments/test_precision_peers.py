"""Where loss scaling goes wrong: jaxrecipe passes every situation, and the stored table says of the others what they do
now."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import pytest

from experiments.precision_peers.__main__ import PEERS, RESULTS, WRONG, play, table
from experiments.precision_peers.causes import CAUSES
from experiments.precision_peers.scenarios import SCENARIOS, Scenario

STORED: dict[str, Any] = json.loads((RESULTS / "precision_peers.json").read_text())
FAILED = sorted(
    (peer, name) for name, row in STORED["scenarios"].items() for peer, cell in row.items() if cell["verdict"] in WRONG
)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_jaxrecipe_passes(scenario: Scenario) -> None:
    cell = play(scenario, "of_jaxrecipe")
    assert cell["verdict"] == "pass", cell["measured"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("peer", "name"), FAILED, ids=lambda text: text)
def test_what_the_table_says_of_others_still_holds(peer: str, name: str) -> None:
    module, package = PEERS[peer]
    try:
        if version(package) != STORED["versions"][package]:
            pytest.skip(f"{package} has another version than in the stored table")
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    scenario = next(one for one in SCENARIOS if one.name == name)
    with jax.numpy_dtype_promotion("standard"):  # as their users have it
        assert play(scenario, module) == STORED["scenarios"][name][peer]


def test_the_stored_table_is_whole() -> None:
    assert list(STORED["scenarios"]) == [scenario.name for scenario in SCENARIOS]
    assert all(list(row) == list(PEERS) for row in STORED["scenarios"].values())
    assert {row["jaxrecipe"]["verdict"] for row in STORED["scenarios"].values()} == {"pass"}
    assert not [row for row in STORED["scenarios"].values() for cell in row.values() if not cell["measured"]]
    assert table(STORED["scenarios"]) in (RESULTS / "precision_peers.md").read_text()


def test_every_failure_has_a_cause_and_no_cause_is_left_over() -> None:
    assert sorted(CAUSES) == FAILED


def test_every_other_library_fails_at_least_one() -> None:
    assert {peer for peer, _ in FAILED} == set(PEERS) - {"jaxrecipe"}


def test_a_library_that_is_absent_is_said_to_be() -> None:
    assert play(SCENARIOS[0], "of_nobody")["verdict"] == "not installed"
