"""What dynamic loss scaling costs: the training step with it against the same step without, interleaved.

Both are the library's own step (`jr.make_train_step`) on the same batch, jitted, with the state donated; they differ in
the task's `loss_scale` alone: scaling the loss, unscaling and checking the gradients, choosing between the old and the
new state, counters. All loops run in one process in rounds of a few steps, in a new order each round, and a ratio is
always taken within a round. A second loop "without" shows what the machine makes of two equal loops. Processor time
(all threads) stands beside wall time, because it suffers less from others.

The models differ in what a step of them is made of: the ConvNet computes long on few parameters, the transformer is in
between, and the MLP on a small batch does little besides moving its 3 million parameters and Adam's moments, which is
the worst case for a choice between two states. The policies are float32 (the choice and the check are the same, and the
step around them is shorter) and float16.

Command:   python -m experiments.loss_scale_overhead       (add --save to write
experiments/results/loss_scale_overhead.{md,json})
Needs:     nothing but the library; about 5 minutes on 2 idle CPU cores.
Expected:  a median ratio of 1.02 or less for the ConvNet and the transformer.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxrecipe as jr
from experiments.loop_overhead import Times, between, clocks, make_task, median_interval, surroundings
from experiments.transformer import Transformer, text_task
from jaxrecipe.data import Batch
from jaxrecipe.models import MLP
from jaxrecipe.training import new_state

RESULTS = Path(__file__).parent / "results"
WARM_UP = 2
"""Rounds before the clock counts."""
POLICIES = ("float32", "float16")


def tasks() -> dict[str, tuple[jr.Task, int]]:
    """Name → a task and how many steps make a round."""
    images = make_task(128)
    flat: nn.Module = MLP((1024, 1024, 512))
    return {
        "ConvNet, batch 128": (images, 10),
        "transformer, batch 32": (text_task(model=Transformer(), characters=40_000), 10),
        "MLP of 2.4 million parameters, batch 32": (images.replace(model=jr.linen(flat), batch_size=32), 20),
    }


def loop(task: jr.Task) -> Callable[[int], None]:
    """Takes so many steps on the first batch, and waits for the last one."""
    step = jax.jit(jr.make_train_step(task), donate_argnums=0)
    state = new_state(task)
    inputs, targets = jax.tree.map(lambda leaf: jnp.asarray(leaf[: task.batch_size]), task.train)
    batch = Batch(inputs, targets, jnp.ones(task.batch_size, bool))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, batch)
        jax.block_until_ready(state)

    return run


def measure(task: jr.Task, *, steps: int, rounds: int) -> dict[str, list[Times]]:
    """Seconds a step of each loop in every round of `steps` steps."""
    plain, scaled = (task.replace(loss_scale=scale) for scale in (jr.no_loss_scale(), jr.dynamic_loss_scale()))
    loops = {"without": loop(plain), "without again": loop(plain), "with": loop(scaled)}
    found: dict[str, list[Times]] = {name: [] for name in loops}
    rng = np.random.default_rng(0)
    for _ in range(rounds + WARM_UP):
        for name in rng.permutation(list(loops)):
            before = clocks()
            loops[str(name)](steps)
            found[str(name)].append(between(before, clocks(), steps))
    return {name: times[WARM_UP:] for name, times in found.items()}


def summarise(found: Mapping[str, Sequence[Times]]) -> dict[str, Any]:
    """Median ratios to "without" of the same round, with quartiles and a 95 % interval of the median, for both
    clocks.
    """
    row: dict[str, Any] = {"rounds": len(found["without"])}
    row["milliseconds"] = 1e3 * statistics.median(wall for wall, _ in found["without"])
    for name in ("with", "without again"):
        for clock, kind in enumerate(("wall", "processor")):
            pairs = zip(found[name], found["without"], strict=True)
            ratios = sorted(mine[clock] / base[clock] for mine, base in pairs)
            quartiles = statistics.quantiles(ratios, n=4)
            row[f"{name}, {kind}"] = {
                "ratio": statistics.median(ratios),
                "quartiles": [quartiles[0], quartiles[2]],
                "interval": median_interval(ratios),
            }
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| model | policy | ms a step without | with / without: wall (95 %) | quartiles | processor (95 %) | "
        "quartiles | without again / without: processor (95 %) | rounds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["model"], row["policy"], f"{row['milliseconds']:.1f}"]
        for name in ("with, wall", "with, processor", "without again, processor"):
            low, high = row[name]["interval"]
            cells.append(f"{row[name]['ratio']:.4f} ({low:.4f} – {high:.4f})")
            if name.startswith("with,"):
                cells.append(" – ".join(f"{end:.4f}" for end in row[name]["quartiles"]))
        lines.append(f"| {' | '.join([*cells, str(row['rounds'])])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and, if asked for, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--models", default="", help="only models whose name holds this")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rows = []
    for model, (task, steps) in tasks().items():
        for policy in options.policies if options.models in model else ():
            found = measure(task.replace(policy=policy), steps=steps, rounds=options.rounds)
            rows.append({"model": model, "policy": policy, **summarise(found)})
            print(table(rows[-1:]), flush=True)
    facts = {
        **surroundings(),
        "work": "random 16×16×3 images or text of 64 characters, Adam or AdamW; rounds of 10 or 20 steps",
    }
    text = table(rows) + "\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"
    print(text)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        heading = (
            "# What dynamic loss scaling costs\n\nMade by `python -m experiments.loss_scale_overhead --save`, "
            "whose docstring says how. Ratios are taken within each round.\n\n"
        )
        (RESULTS / "loss_scale_overhead.md").write_text(heading + text, encoding="utf-8")
        (RESULTS / "loss_scale_overhead.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
