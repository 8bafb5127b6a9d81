"""The command line: `jaxrecipe` and `python -m jaxrecipe`.

Reports go to standard output, progress and errors to standard error.

Exit codes: 0 clean, 1 a check failed or crashed, 2 bad usage, 3 an error of jaxrecipe itself, 130 interrupted,
141 broken pipe.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrecipe.report.report import Report
    from jaxrecipe.task import Task

# Imports stand inside the functions, so that --help and a mistyped option answer without loading what they do not need.
CLEAN, FAILED, BAD_USAGE, BROKEN, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\njaxrecipe: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever was reading has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    from jaxrecipe.cli.loading import UsageError

    try:
        return options.command(options)
    except UsageError as error:
        print(f"jaxrecipe: error: {error}", file=sys.stderr)
        return BAD_USAGE
    except BrokenPipeError:
        raise
    except Exception:
        traceback.print_exc()
        print(
            "jaxrecipe: stopped by an error of its own (above), which says nothing about your set-up", file=sys.stderr
        )
        return BROKEN


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from jaxrecipe import __version__

    parser = argparse.ArgumentParser(
        prog="jaxrecipe", description="Finds what is silently wrong with a JAX training set-up."
    )
    parser.add_argument("--version", action="version", version=f"jaxrecipe {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(_command(commands, "check", _check, "run the recipe on a training set-up"))
    _add_watch(_command(commands, "watch", _watch, "run a training script as it is, and check the step it takes"))
    listing = _command(commands, "list", _list, "list the checks, or what they can find")
    listing.add_argument("--causes", action="store_true", help="list the causes that findings name")
    explain = _command(commands, "explain", _explain, "the page of a check or of a cause")
    explain.add_argument("name", metavar="NAME", help="a check or a cause, as in jaxrecipe list and list --causes")
    _add_demo(
        _command(commands, "demo", _demo, "the whole recipe on real handwritten digits, and silent bugs to plant")
    )
    prepare = _command(
        commands, "prepare-cifar10", _prepare_cifar10, "prepare CIFAR-10 from its official archive on disk"
    )
    prepare.add_argument("archive", metavar="ARCHIVE", help="cifar-10-binary.tar.gz or cifar-10-python.tar.gz")
    prepare.add_argument("--data-dir", metavar="DIR", help="default: $TFDS_DATA_DIR, or ~/tensorflow_datasets")
    return parser


def _command(commands: Any, name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.set_defaults(command=run)
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:

    task = "package.module:name or file.py:name of a jr.Task, or of a function for one"
    parser.add_argument("task", metavar="TASK", help=task)
    own = "add a check of your own: package.module:name or file.py:name"
    parser.add_argument("--check", metavar="CHECK", dest="checks", action="append", default=[], help=own)
    _add_choice(parser)
    _add_output(parser)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    from jaxrecipe.cli import options

    parser.add_argument("script", metavar="SCRIPT", help="the script that trains; a module after -m")
    rest = "arguments of the script"
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help=rest)
    parser.add_argument("-m", action="store_true", dest="module", help="SCRIPT is a module, as for python -m")
    step = "the training step, where it is not found or not the right one: a function of the script, or module:name"
    parser.add_argument("--step", metavar="NAME", help=step)
    most = "end the script after so many calls of its step (default 32)"
    parser.add_argument("--batches", metavar="N", type=options.calls, default=32, help=most)
    go_on = "let the script run to its end before checking"
    parser.add_argument("--continue", action="store_true", dest="go_on", help=go_on)
    parser.add_argument("--loss", metavar="NAME", help="which of the numbers that the step returns is the loss")
    names = "which parts of a batch are targets"
    parser.add_argument("--targets", metavar="A,B", type=options.exact_names, help=names)
    _add_choice(parser)
    _add_output(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    from jaxrecipe.cli import options

    several: dict[str, Any] = {"action": "append", "default": []}
    named: dict[str, Any] = {"metavar": "A,B", "type": options.names, "action": "extend"}
    parser.add_argument("--only", **named, help="run only these checks (or stages)")
    parser.add_argument("--skip", **named, default=[], help="leave these out")
    value = "CHECK.NAME=VALUE"
    parser.add_argument("--threshold", metavar=value, type=options.threshold, **several, help="override one")
    reason = "known to fail, and why"
    parser.add_argument("--expect", metavar="CHECK=REASON", type=options.expectation, **several, help=reason)
    limit = "end a check that takes longer (default 600)"
    parser.add_argument("--time-limit", metavar="SECONDS", type=options.seconds, default=600.0, help=limit)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    bug = "plant a silent bug and see which checks catch it; 'list' lists them"
    parser.add_argument("--bug", metavar="NAME", help=bug)
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    from jaxrecipe.cli import options

    seed = "everything random follows from it (default 0)"
    parser.add_argument("--seed", metavar="N", type=options.seed, default=0, help=seed)
    parser.add_argument("--json", metavar="PATH", type=options.output, help="write the report as data")
    parser.add_argument("--html", metavar="PATH", type=options.output, help="write the report as a page")
    kept = "$XDG_CACHE_HOME/jaxrecipe/xla or ~/.cache/jaxrecipe/xla"
    cache = f"compile everything anew; otherwise programs are kept in {kept}"
    parser.add_argument("--no-cache", action="store_true", help=cache)


def _check(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.loading import load_check, load_task
    from jaxrecipe.recipe import RECIPE

    _keep_programs(options)
    checks = [*RECIPE, *map(load_check, options.checks)]
    return _deliver(_checked(load_task(options.task), checks=checks, **_choice(options)), options)


def _choice(options: argparse.Namespace) -> dict[str, Any]:
    """What of the recipe is to run, and how."""
    from jaxrecipe.cli.options import by_check

    return {
        "only": options.only,
        "skip": options.skip,
        "thresholds": by_check(options.threshold),
        "expect": dict(options.expect),
        "time_limit": options.time_limit,
        "seed": options.seed,
    }


def _watch(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.enabling import enabling
    from jaxrecipe.cli.watching import leave_threads_behind, watched

    with watched(options, lambda line: print(f"jaxrecipe: {line}", file=sys.stderr)) as found:
        _keep_programs(options)
        report = _checked(found.task, **_choice(options))
        code = _deliver(report, options)
        print(enabling(report, found), end="")
    sys.stdout.flush()
    sys.stderr.flush()
    if leave_threads_behind():
        os._exit(code)
    return code


def _list(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.pages import cause_listing, listing

    print(cause_listing() if options.causes else listing())
    return CLEAN


def _explain(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.pages import explain

    print(explain(options.name))
    return CLEAN


def _demo(options: argparse.Namespace) -> int:
    from jaxrecipe.cli import demonstration
    from jaxrecipe.demo.digits import digits_task

    if options.bug == "list":
        print(demonstration.bug_list())
        return CLEAN
    bug = None if options.bug is None else demonstration.find(options.bug)
    _keep_programs(options)
    if bug is None:
        task = digits_task()
        report = _checked(task, seed=options.seed)
        return _deliver(demonstration.with_accuracy(report, task, _console(), seed=options.seed), options)
    report = _checked(bug.plant(digits_task()), seed=options.seed)
    return _deliver(demonstration.with_verdict(report, bug), options)


def _prepare_cifar10(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.loading import UsageError
    from jaxrecipe.data.prepare import prepare_cifar10

    try:
        where = prepare_cifar10(options.archive, options.data_dir)
    except (OSError, ImportError, ValueError) as error:
        raise UsageError(str(error)) from error
    print(f"CIFAR-10 is ready in {where}")
    return CLEAN


def _checked(task: "Task", **options: Any) -> "Report":
    """The report, with progress; a task or an option that cannot work is bad usage."""
    from jaxrecipe.cli.loading import UsageError
    from jaxrecipe.cli.progress import checking
    from jaxrecipe.recipe import RECIPE, as_table, check, select_checks
    from jaxrecipe.validate import InvalidTaskError

    try:
        table = as_table(options.get("checks", RECIPE))
        total = len(select_checks(table, only=options.get("only"), skip=options.get("skip", ())))
        with checking(total, _console()) as watch:
            return check(task, watch=watch, **options)
    except (InvalidTaskError, ValueError) as error:
        raise UsageError(str(error)) from error


def _deliver(report: "Report", options: argparse.Namespace) -> int:
    """Print the report, write the files that were asked for, and say how it went by the exit code."""
    from rich.console import Console

    from jaxrecipe.cli.loading import UsageError
    from jaxrecipe.report.files import write_text

    console = Console()
    if console.is_terminal:
        console.print(report)
    else:
        print(report)
    try:
        if options.json:
            write_text(options.json, report.to_json())
        if options.html:
            write_text(options.html, report.to_html())
    except OSError as error:
        raise UsageError(f"the report could not be written: {error}") from error
    return CLEAN if report.ok else FAILED


def _keep_programs(options: argparse.Namespace) -> None:
    """Switch JAX's compilation cache on, unless the user does not want it."""
    from jaxrecipe.cli.cache import keep_programs

    if not options.no_cache:
        keep_programs()


def _console() -> Any:
    """Where progress is shown."""
    from rich.console import Console

    return Console(stderr=True)


if __name__ == "__main__":
    sys.exit(main())
