"""The command line: `jaxrecipe` and `python -m jaxrecipe`. Reports go to standard output, progress and errors to standard error.

Exit codes: 0 clean, 1 a check failed or crashed, 2 bad usage, 3 an error of jaxrecipe itself, 130 interrupted, 141 broken pipe.
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
    _command(commands, "list", _list, "list the checks")
    explain = _command(commands, "explain", _explain, "what a check does, why it matters, what to do")
    explain.add_argument("name", metavar="NAME", help="a check, as in jaxrecipe list")
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
    from jaxrecipe.cli import options

    parser.add_argument(
        "task", metavar="TASK", help="package.module:name or file.py:name of a jr.Task, or of a function for one"
    )
    parser.add_argument(
        "--only", metavar="A,B", type=options.names, action="extend", help="run only these checks (or stages)"
    )
    parser.add_argument(
        "--skip", metavar="A,B", type=options.names, action="extend", default=[], help="leave these out"
    )
    parser.add_argument(
        "--threshold",
        metavar="CHECK.NAME=VALUE",
        type=options.threshold,
        action="append",
        default=[],
        help="override one",
    )
    parser.add_argument(
        "--expect",
        metavar="CHECK=REASON",
        type=options.expectation,
        action="append",
        default=[],
        help="known to fail, and why",
    )
    _add_output(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bug", metavar="NAME", help="plant a silent bug and see which checks catch it; 'list' lists them"
    )
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    from jaxrecipe.cli import options

    parser.add_argument(
        "--seed", metavar="N", type=options.seed, default=0, help="everything random follows from it (default 0)"
    )
    parser.add_argument("--json", metavar="PATH", type=options.output, help="write the report as data")
    parser.add_argument("--html", metavar="PATH", type=options.output, help="write the report as a page")


def _check(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.loading import load_task
    from jaxrecipe.cli.options import by_check

    report = _checked(
        load_task(options.task),
        only=options.only,
        skip=options.skip,
        thresholds=by_check(options.threshold),
        expect=dict(options.expect),
        seed=options.seed,
    )
    return _deliver(report, options)


def _list(_: argparse.Namespace) -> int:
    from jaxrecipe.cli.pages import listing

    print(listing())
    return CLEAN


def _explain(options: argparse.Namespace) -> int:
    from jaxrecipe.cli.pages import explain, find_check

    print(explain(find_check(options.name)))
    return CLEAN


def _demo(options: argparse.Namespace) -> int:
    from jaxrecipe.cli import demonstration
    from jaxrecipe.demo.digits import digits_task

    if options.bug == "list":
        print(demonstration.bug_list())
        return CLEAN
    if options.bug is None:
        task = digits_task()
        report = _checked(task, seed=options.seed)
        return _deliver(demonstration.with_accuracy(report, task, _console(), seed=options.seed), options)
    bug = demonstration.find(options.bug)
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
    """The report, with progress. What a check raises is in the report; a task or an option that cannot work is bad usage."""
    from jaxrecipe.cli.loading import UsageError
    from jaxrecipe.cli.progress import checking
    from jaxrecipe.recipe import check, select_checks
    from jaxrecipe.validate import InvalidTaskError

    try:
        total = len(select_checks(only=options.get("only"), skip=options.get("skip", ())))
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
            from jaxrecipe.report import html

            write_text(options.html, html.page(report))
    except OSError as error:
        raise UsageError(f"the report could not be written: {error}") from error
    return CLEAN if report.ok else FAILED


def _console() -> Any:
    """Where progress is shown."""
    from rich.console import Console

    return Console(stderr=True)


if __name__ == "__main__":
    sys.exit(main())
