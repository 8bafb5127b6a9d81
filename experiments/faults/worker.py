"""A process that runs cases one after the other: a case as a line of JSON on standard input, its outcome as one on
standard output.
"""

import json
import os
import sys

from experiments.faults.case import OWN, Case, run_case, to_json


def main() -> None:
    """Answer until the input ends. Whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        case = Case(**json.loads(line))
        outcome = run_case(case)
        print(json.dumps(to_json(outcome)), file=answers)
        if case.tool == OWN:
            import jax

            jax.clear_caches()


if __name__ == "__main__":
    main()
