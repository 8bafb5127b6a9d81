"""The command line: exit codes, messages without tracebacks, files, progress, interruption."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jaxrecipe.__main__ import main
from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.cli import options
from jaxrecipe.cli.pages import explain
from jaxrecipe.diagnosis.finding import warning
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result

SETUP = """
import jax, numpy as np, optax
from jaxrecipe.targets import Values
from jaxrecipe.task import Model, Task

inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
task = Task(
    name="linear",
    model=Model(
        lambda key, x: ({"w": jax.random.normal(key, (3,)) * 0.1}, {}),
        lambda params, state, x, *, train, key: (x @ params["w"], state),
    ),
    loss=lambda outputs, targets: (outputs - targets) ** 2,
    optimizer=optax.sgd(0.1),
    train=(inputs, inputs @ np.float32([1.0, -2.0, 0.5])),
    target=Values(),
    batch_size=8,
)
unseeded = task.replace(
    model=Model(lambda key, x: ({"w": np.random.default_rng().normal(size=3).astype(np.float32)}, {}), task.model.apply)
)
invalid = task.replace(loss=lambda outputs, targets: ((outputs - targets) ** 2).mean())

def make():
    return task

def needs(argument):
    return task

def broken():
    return 1 / 0

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the set-up as a file and as a package, to stand in."""
    (tmp_path / "mine_file.py").write_text(SETUP)
    (tmp_path / "mine_package").mkdir()
    (tmp_path / "mine_package" / "__init__.py").write_text("")
    (tmp_path / "mine_package" / "setups.py").write_text(SETUP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine_file", "mine_package", "mine_package.setups", "bad", "exits"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


QUICK = ("--only", "fix_random_seed,loss_at_init")


def usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Exit code 2 and a message, nothing on standard output, no traceback."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("where", ["mine_file.py:task", "mine_package.setups:task", "mine_file.py:make"])
def test_a_clean_task_gives_0_and_a_report(here: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", where, *QUICK]) == 0
    captured = capsys.readouterr()
    assert "linear" in captured.out
    assert "PASS" in captured.out
    assert "\x1b" not in captured.out + captured.err, "no colours when piped"
    assert captured.err.splitlines()[0].startswith("1/2 PASS fix_random_seed")


def test_a_failed_check_gives_1_and_an_expectation_makes_it_0(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine_file.py:unseeded", "--only", "fix_random_seed"]) == 1
    assert "FAIL" in capsys.readouterr().out
    expected = [
        "check",
        "mine_file.py:unseeded",
        "--only",
        "fix_random_seed",
        "--expect",
        "fix_random_seed=a reason of mine",
    ]
    assert main(expected) == 0
    assert "a reason of mine" in " ".join(capsys.readouterr().out.split())


def test_json_and_html_are_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--json", "out.json", "--html", "out.page", "--seed", "3"]
    assert main(["check", "mine_file.py:task", *QUICK, *wanted]) == 0
    report = Report.from_json((here / "out.json").read_text())
    assert (report.task, report.seed, len(report.results)) == ("linear", 3, 2)
    assert json.loads((here / "out.json").read_text())
    assert "<html" in (here / "out.page").read_text()


def test_thresholds_are_passed_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(RECIPE[0].thresholds))
    main(
        [
            "check",
            "mine_file.py:task",
            "--only",
            RECIPE[0].name,
            "--threshold",
            f"{RECIPE[0].name}.{name}=2",
            "--json",
            "o",
        ]
    )
    assert Report.from_json((here / "o").read_text()).results[0].thresholds[name] == 2


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("no_colon", "wanted package.module:task"),
        ("no_such_module:task", "No module named 'no_such_module'"),
        ("no_such_file.py:task", "there is no file no_such_file.py"),
        ("mine_file.py:absent", "tasks there: task, unseeded, invalid"),
        ("mine_file.py:number", "is a int; wanted a jr.Task"),
        ("mine_file.py:needs", "needs() missing 1 required positional argument"),
        ("mine_file.py:broken", "ZeroDivisionError: division by zero"),
        ("bad.py:task", "NameError: name 'undefined_thing' is not defined"),
        ("exits.py:task", "called sys.exit(5)"),
    ],
)
def test_a_task_that_cannot_be_found(here: Path, where: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.py").write_text("x = 1\nundefined_thing\n")
    (here / "exits.py").write_text("import sys\nsys.exit(5)\n")
    message = usage_error(["check", where], capsys)
    assert told in message
    if where == "bad.py:task":
        assert "bad.py, line 2" in message


def test_an_invalid_task_is_bad_usage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = usage_error(["check", "mine_file.py:invalid"], capsys)
    assert "loss" in message


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "no_such"], "no check is called no_such"),
        (["--skip", "no_such"], "no check is called no_such"),
        (["--threshold", "no_such.a=1"], "no check is called no_such"),
        (["--threshold", "loss_at_init.no_such=1"], "loss_at_init has no threshold no_such"),
        (["--threshold", "nonsense"], "wanted check.threshold=value"),
        (["--expect", "loss_at_init"], "wanted check=reason"),
        (["--seed", "-1"], "wanted a whole number"),
        (["--json", "no/such/directory/out.json"], "there is no directory no/such/directory"),
        (["--html", "."], "is a directory"),
    ],
)
def test_options_that_make_no_sense(
    here: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in usage_error(["check", "mine_file.py:task", *arguments], capsys)


def test_list_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for check in RECIPE:
        assert check.name in listed
        assert main(["explain", check.name.replace("_", "-")]) == 0
        page = " ".join(capsys.readouterr().out.split())
        for heading in ("What it does:", "Why it matters:", "What to do:", "Thresholds"):
            assert heading in page
        for name, default in check.thresholds.items():
            assert f"{name} = {default}" in page
    assert "no check is called 'nothing'" in usage_error(["explain", "nothing"], capsys)


def test_explain_says_what_each_threshold_means() -> None:
    def made_up(setup: object, *, key: object, limit: float = 0.5, both: int = 3, steps: int = 4) -> Result:
        """One line.

        What it does: this.

        Args:
            setup: the set-up.
            limit: the most that is
                allowed.
            both, steps: how many.

        Source: a book,
        page 3.
        """
        return Result(summary="")

    page = explain(Check(run=made_up, stage="data"))
    assert page.startswith("made_up (data)\n\nOne line.")
    assert "  limit = 0.5  the most that is allowed." in page
    assert page.count("how many.") == 2
    assert "the set-up" not in page
    assert page.endswith("Source: a book, page 3.")


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("False", False), ("word", "word")]
)
def test_values_of_thresholds(text: str, value: object) -> None:
    check, name, read = options.threshold(f"a-check.a-name={text}")
    assert (check, name, read, type(read)) == ("a_check", "a_name", value, type(value))


def test_a_later_threshold_counts() -> None:
    given = [("a", "x", 1), ("b", "x", 2), ("a", "x", 3), ("a", "y", 4)]
    assert options.by_check(given) == {"a": {"x": 3, "y": 4}, "b": {"x": 2}}


def test_the_list_of_bugs_and_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bug", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 10
    assert "no bug is called 'nothing'" in usage_error(["demo", "--bug", "nothing"], capsys)


@pytest.mark.slow
def test_the_demo_ends_with_the_exact_accuracy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["demo", "--json", str(tmp_path / "report.json")]) == 0
    captured = capsys.readouterr()
    note = Report.from_json((tmp_path / "report.json").read_text()).notes[-1]
    assert note in " ".join(captured.out.split())
    assert "exact test accuracy 9" in note
    assert "95 % interval" in note
    assert "359 examples" in note
    assert "training 1380/1380" in captured.err


@pytest.mark.slow
def test_a_planted_bug_is_shown_with_what_caught_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bug", "softmax_twice"]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "Planted: softmax_twice." in told
    assert "Caught by overfit_one_batch" in told
    assert "softmax applied twice" in told


def test_a_bug_that_nothing_catches_is_not_glossed_over() -> None:
    from jaxrecipe.cli.demonstration import with_verdict
    from jaxrecipe.demo.bugs import find_bug

    one = Result(name="a", stage="data", summary="", findings=(warning("loss/flat", "Flat."),))
    report = with_verdict(Report(task="digits", results=(one,)), find_bug("unseeded"))
    assert report.notes[-1] == "No check failed; warned by a."


def test_prepare_cifar10_reports_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "absent.tar.gz")
    assert "absent.tar.gz" in usage_error(["prepare-cifar10", absent, "--data-dir", str(tmp_path)], capsys)


def test_no_command_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: jaxrecipe" in usage_error([], capsys)


def test_an_error_of_our_own_does_not_read_as_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> str:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("jaxrecipe.cli.pages.listing", fails)
    assert main(["list"]) == 3
    assert "a bug of ours" in capsys.readouterr().err


def test_a_terminal_gets_colours(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["check", "mine_file.py:task", "--only", "fix_random_seed"]) == 0
    captured = capsys.readouterr()
    assert "\x1b[" in captured.out
    assert "1/1 fix_random_seed" in captured.err


def python(*arguments: str, **settings: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def test_python_m_is_the_same_command(capsys: pytest.CaptureFixture[str]) -> None:
    process = python("-m", "jaxrecipe", "list")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    main(["list"])
    assert out == capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error() -> None:
    with python("-m", "jaxrecipe", "list") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_ctrl_c_ends_with_a_short_message(tmp_path: Path) -> None:
    """The task's own module says when it is being imported; the interrupt comes then."""
    (tmp_path / "slow_file.py").write_text(
        textwrap.dedent("""
            import os, signal
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background of a shell
                signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(os.getpid(), signal.SIGINT)
            task = None
        """)
    )
    process = python("-m", "jaxrecipe", "check", "slow_file.py:task", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err.strip() == "jaxrecipe: interrupted"


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(Exception, match="cannot be written"):
        options.output(str(tmp_path / "out.json"))


def test_the_signal_of_ctrl_c_is_left_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    main(["list"])
    assert signal.getsignal(signal.SIGINT) is before
