"""The public fault benchmark: which silent faults the recipe finds, whether it names
the right cause, and what it says of healthy set-ups.

    python -m experiments.faults            everything, resumed where it was; writes
    experiments/results/faults.{md,json} python -m experiments.faults --smoke    six faults and three controls
    python -m experiments.faults --only 17  the faults of a number, or names of faults, controls or tools

About an hour on two cores for everything, peers included. Finished cases are kept under `runs/faults/` by versions (or
by `--label`), whatever the source has become meanwhile; the commit of each is in the JSON. `--fresh` runs the chosen
cases again. `--table` only writes the tables.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.faults.cache import ROOT, Cache, default_label, facts
from experiments.faults.case import OWN, Case, Outcome
from experiments.faults.peers import PEERS, expressed
from experiments.faults.pool import run_all
from experiments.faults.score import Scores, verdict
from experiments.faults.table import markdown, to_data
from jaxrecipe.catalogue import CONTROLS, FAULTS, SEEDS

RESULTS = ROOT / "experiments" / "results"
SMOKE = (
    "08_nan_in_inputs",
    "17a_softmax_in_model",
    "22_column_against_row",
    "24b_error_sign_flipped",
    "45_updates_thrown_away",
    "54a_unseeded_init",
    "three_parameters",
    "table_mlp",
    "autoencoder",
)


def all_cases(seeds: Sequence[int] = SEEDS) -> list[Case]:
    """Every case: each fault in the first seed, each control in all, and for each peer, in the first seed, what can be
    expressed.
    """
    own = [Case(OWN, "fault", fault.name, 0) for fault in FAULTS]
    own += [Case(OWN, "control", control.name, seed) for control in CONTROLS for seed in seeds]
    peers = [Case(peer, kind, name, 0) for peer in PEERS for kind, name in expressed(peer)]
    return own + peers


def chosen(only: Sequence[str] | None, *, smoke: bool) -> list[Case]:
    """The cases that are asked for."""
    cases = all_cases()
    if smoke:
        return [case for case in cases if case.tool == OWN and case.seed == 0 and case.name in SMOKE]
    if not only:
        return cases
    picked = [case for case in cases if any(_fits(case, word) for word in only)]
    if not picked:
        raise SystemExit(f"nothing is called {', '.join(only)}; see --list")
    return picked


def _fits(case: Case, word: str) -> bool:
    number = case.name.partition("_")[0].lstrip("0") if case.kind == "fault" else ""
    return word in (case.tool, case.kind, case.name, case.key, number, number.rstrip("abc"))


def run(cases: Sequence[Case], cache: Cache, *, workers: int, limit: float, console: Console) -> None:
    """Run what the cache does not hold, with a bar and a line for each case."""
    measured = facts()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("cases", total=len(cases))

        def done(outcome: Outcome) -> None:
            outcome = replace(outcome, facts=measured)
            cache.add(outcome)
            progress.console.print(verdict(outcome), markup=False, highlight=False, soft_wrap=True)
            progress.advance(bar)

        def started(case: Case) -> None:
            progress.update(bar, description=case.name[:40].ljust(40))

        run_all(cases, workers=workers, limit=limit, started=started, done=done)


def main() -> None:
    """Run, print and, after a whole run or with --table, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="numbers or names of faults, names of controls, tools or kinds"
    )
    parser.add_argument("--smoke", action="store_true", help="a few cases, to see that it runs")
    parser.add_argument("--fresh", action="store_true", help="run again what has been run")
    parser.add_argument("--table", action="store_true", help="run nothing, write the tables from what has been run")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds a case may take")
    parser.add_argument("--label", default=default_label(), help="name of the kept results")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "faults", help="where results are kept")
    options = parser.parse_args()
    console = Console()
    cases = chosen(options.only, smoke=options.smoke)
    if options.list:
        print("\n".join(case.key for case in cases))
        return
    cache = Cache(options.cache, options.label)
    missing = [case for case in cases if options.fresh or case not in cache.outcomes]
    if missing and not options.table:
        run(missing, cache, workers=options.workers, limit=options.limit, console=console)
    outcomes = [cache.outcomes[case] for case in cases if case in cache.outcomes]
    scores = Scores(outcomes)
    if options.only or options.smoke:
        console.print(
            "\n".join(verdict(outcome) for outcome in outcomes) if not missing else "", markup=False, highlight=False
        )
        console.print(scores.summary(), markup=False, highlight=False)
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "faults.md").write_text(markdown(scores), encoding="utf-8")
    (RESULTS / "faults.json").write_text(json.dumps(to_data(scores), indent=1) + "\n", encoding="utf-8")
    console.print(scores.summary(), markup=False, highlight=False)
    console.print(f"Written: {RESULTS / 'faults.md'} and {RESULTS / 'faults.json'}")


if __name__ == "__main__":
    main()
