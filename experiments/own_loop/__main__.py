"""The recipe on a project with its own loop: `python -m experiments.own_loop [--bug batch_means] [--train]`.

The project is `project.py`, untouched; `checked.py` says how to call it. Expected on two CPU cores: a report without a
failure in about 30 s; with `--bug` one of BUGS is found by name; with `--train` 700 steps reach about 98 % on the 359
test digits.
"""

import argparse

import jaxrecipe as jr
from experiments.own_loop import project
from experiments.own_loop.checked import BUGS, task, with_bug
from jaxrecipe.data import digits


def main() -> None:
    """Check, and train if asked to."""
    parser = argparse.ArgumentParser(description="The recipe on a project with its own training loop.")
    parser.add_argument("--bug", choices=sorted(BUGS), help="check the project with this edit")
    parser.add_argument("--train", action="store_true", help="train the project and print its test accuracy")
    parser.add_argument("--only", nargs="*", help="names of the checks to run")
    options = parser.parse_args()
    if options.train:
        (images, labels), (test_images, test_labels) = digits()
        trained = project.train(images, labels)
        loss, accuracy = project.evaluate(trained, project.normalise(test_images), test_labels, 100)
        print(f"test loss {loss:.4f}, accuracy {accuracy:.1%}")
        return
    checked = with_bug(options.bug) if options.bug else task()
    print(jr.check(checked, only=options.only))


if __name__ == "__main__":
    main()
