"""What `import jaxrecipe` costs over `import jax, flax, optax`: `python -m experiments.import_cost`.

Each import runs in fresh interpreters, the two in turn so that a busy machine slows both alike. Prints the medians, the
difference of pairs with its quartiles, and how many modules were added. Expected on two CPU cores: at most 0.3 s.
Takes about a minute for 10 pairs.
"""

import argparse
import statistics
import subprocess
import sys

BASE = "import jax, flax, optax"
OURS = f"{BASE}; import jaxrecipe"
TIMED = "import sys, time; began = time.perf_counter(); {}; print(time.perf_counter() - began, len(sys.modules))"


def timed(code: str) -> tuple[float, int]:
    """Seconds and modules of one import in a fresh interpreter; the interpreter's own start is not counted."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(code)], capture_output=True, text=True, check=True)
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what importing jaxrecipe costs.")
    parser.add_argument("--pairs", type=int, default=10)
    pairs = parser.parse_args().pairs
    timed(OURS)  # writes byte code and fills the file cache
    rows = [(timed(BASE), timed(OURS)) for _ in range(max(pairs, 2))]
    base, ours = ([row[i][0] for row in rows] for i in (0, 1))
    extra = sorted(b - a for a, b in zip(base, ours, strict=True))
    low, _, high = statistics.quantiles(extra, n=4)
    print(f"{BASE}: {statistics.median(base):.2f} s, {rows[0][0][1]} modules")
    print(f"with jaxrecipe: {statistics.median(ours):.2f} s, {rows[0][1][1]} modules")
    print(f"jaxrecipe adds {statistics.median(extra):.2f} s (quartiles {low:.2f} to {high:.2f}, {len(extra)} pairs)")


if __name__ == "__main__":
    main()
