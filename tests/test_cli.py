"""The command line: exit codes, messages without tracebacks, files, progress, interruption."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import pytest

from jaxrecipe import recipe
from jaxrecipe.__main__ import main
from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.cli import options
from jaxrecipe.cli.cache import keep_programs, user_folder
from jaxrecipe.cli.finders import checks_that_find, validation_finds
from jaxrecipe.cli.pages import cause_page, check_page, listing
from jaxrecipe.diagnosis.causes.table import CAUSES, causes
from jaxrecipe.diagnosis.finding import warning
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result, Status

SETUP = """
import jax, numpy as np, optax
from jaxrecipe.targets import Values
from jaxrecipe.parts import Model
from jaxrecipe.task import Task

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

def mine(setup, *, key, least: float = 0.5):
    \"\"\"A check of my own.\"\"\"
    from jaxrecipe import Result, failure
    return Result(summary="", findings=(failure("mine/too-small", f"Less than {least}."),))
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
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "as the user likes")  # read by us, not by JAX, which is running
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
    assert "\x1b" not in captured.out + captured.err, "no colors when piped"
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
    ("where", "words"),
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
def test_a_task_that_cannot_be_found(here: Path, where: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.py").write_text("x = 1\nundefined_thing\n")
    (here / "exits.py").write_text("import sys\nsys.exit(5)\n")
    message = usage_error(["check", where], capsys)
    assert words in message
    if where == "bad.py:task":
        assert "bad.py, line 2" in message


def test_an_invalid_task_is_bad_usage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = usage_error(["check", "mine_file.py:invalid"], capsys)
    assert "loss" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
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
    here: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in usage_error(["check", "mine_file.py:task", *arguments], capsys)


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


def test_the_list_says_what_a_check_costs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    listed = capsys.readouterr().out
    for check in RECIPE:
        [line] = [line for line in listed.splitlines() if line.split()[:1] == [check.name]]
        assert line.split()[1].rstrip(",") == check.cost
        assert ("preview" in line.split()[:3]) is (check.stability == "preview")
    rare = Check(run=RECIPE[0].run, stage="own", cost="steps", stability="preview", default=False)
    assert "steps, preview, only when asked for" in listing([rare])


def test_causes_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--causes"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {code} " in listed for code in CAUSES)
    for code in ("loss/softmax-twice", "data/test-in-train"):
        assert main(["explain", code]) == 0
        page = " ".join(capsys.readouterr().out.split())
        row = CAUSES[code]
        assert page.startswith(f"{code} {row.title}")
        assert all(words in page for words in (row.harm, row.fix, "Why it does harm:", "What to do:"))
    assert all(cause_page(row) for row in CAUSES.values())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("los_at_init", "did you mean loss_at_init?"),
        ("softmax-twice", "did you mean loss/softmax-twice?"),
        ("loss/softmax-twcie", "did you mean loss/softmax-twice?"),
        ("padding-counted", "did you mean loss/padding-counted or evaluation/padding-counted?"),
    ],
)
def test_a_typing_mistake_is_answered_with_what_was_meant(
    name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meant in usage_error(["explain", name], capsys)


def test_a_cause_is_found_by_the_checks_whose_sources_name_it() -> None:
    """By the sources as they are: every code in a check's file or folder leads to it."""
    for check in RECIPE:
        path = Path(str(sys.modules[check.run.__module__].__file__))
        files = path.parent.glob("*.py") if path.name == "check.py" else [path]
        for file in files:
            for code in CAUSES:
                if f'"{code}"' in file.read_text():
                    assert check in checks_that_find(code, RECIPE)
    assert checks_that_find("no/such", RECIPE) == []
    assert validation_finds("data/labels-from-one")
    assert not validation_finds("no/such")


def test_a_check_of_my_own_is_added(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["check", "mine_file.py:task", "--check", "mine_file.py:mine", "--only", "mine"]
    assert main(own) == 1
    captured = capsys.readouterr()
    assert "mine/too-small" in captured.out
    assert captured.err.startswith("1/1 FAIL mine")
    assert main([*own, "--expect", "mine=known", "--threshold", "mine.least=0.25", "--json", "o"]) == 0
    [result] = Report.from_json((here / "o").read_text()).results
    assert (result.stage, dict(result.thresholds)) == ("own", {"least": 0.25})
    assert "0.25" in result.findings[0].message
    assert main([*own[:-1], "own", "--check", "mine_package.setups:mine"]) == 2, "two of one name"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("mine_file.py:number", "is a int; wanted a function check(setup, *, key, ...thresholds) -> Result"),
        ("mine_file.py:min", "has no 'min' (did you mean mine?)"),
        ("mine_file.py", "wanted package.module:check"),
    ],
)
def test_a_check_that_cannot_be_found(here: Path, where: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in usage_error(["check", "mine_file.py:task", "--check", where], capsys)


def test_the_time_limit_is_passed_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "slow.py").write_text(
        "def endless(setup, *, key):\n    while True:\n        setup.mean_loss(setup.params, {}, *setup.batch)\n"
    )
    arguments = ["check", "mine_file.py:task", "--check", "slow.py:endless", "--only", "endless"]
    assert main([*arguments, "--time-limit", "0.2"]) == 0
    assert "1 ran out of time" in capsys.readouterr().out
    assert "wanted seconds" in usage_error([*arguments, "--time-limit", "0"], capsys)


def settings() -> dict[str, object]:
    return {name: value for name, value in jax.config.values.items() if "cache" in name}


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The user's cache folder, with no choice made about JAX's cache; the settings are put back afterwards."""
    before = settings()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache_folder(unset: Path) -> None:
    assert keep_programs() == user_folder() == unset / "jaxrecipe" / "xla"
    assert jax.config.values["jax_compilation_cache_dir"] == str(unset / "jaxrecipe" / "xla")
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 0
    assert jax.config.values["jax_persistent_cache_min_entry_size_bytes"] == -1


def test_a_choice_of_the_user_is_left_alone(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jax.config.update("jax_compilation_cache_dir", "mine")
    before = settings()
    assert keep_programs() is None
    assert settings() == before
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "mine")
    assert keep_programs() is None
    assert not (unset / "jaxrecipe").exists()


def test_a_folder_that_cannot_be_written_to_is_no_cache(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unset / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(unset / "file"))
    before = settings()
    assert keep_programs() is None
    assert settings() == before


def findings_of(path: Path) -> list[object]:
    return [(r.name, r.status, r.findings, r.measures) for r in Report.from_json(path.read_text()).results]


def test_a_warm_cache_finds_the_same(here: Path) -> None:
    """In processes of their own: JAX's cache is set up once a process."""
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    environment |= {"XDG_CACHE_HOME": str(here / "caches"), "PYTHONPATH": str(Path(__file__).parents[1])}

    def run(name: str, *more: str) -> list[object]:
        arguments = ["check", "mine_file.py:task", *QUICK, "--json", name, *more]
        process = python("-m", "jaxrecipe", *arguments, cwd=here, env=environment)
        _, err = process.communicate()
        assert process.returncode == 0, err
        return findings_of(here / name)

    anew = run("anew.json", "--no-cache")
    assert not (here / "caches").exists()
    cold = run("cold.json")
    kept = sorted(path.name for path in (here / "caches" / "jaxrecipe" / "xla").iterdir())
    assert kept
    warm = run("warm.json")
    assert anew == cold == warm


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

    page = check_page(Check(run=made_up, stage="data"))
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
def test_the_demo_is_clean_and_ends_with_the_exact_accuracy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Clean means no WARN either, under every check."""
    assert main(["demo", "--json", str(tmp_path / "report.json")]) == 0
    captured = capsys.readouterr()
    report = Report.from_json((tmp_path / "report.json").read_text())
    assert [result.name for result in report.results] == [row.name for row in RECIPE]
    assert not [r.headline for r in report.results if r.status not in (Status.PASS, Status.SKIP)]
    note = report.notes[-1]
    assert note in " ".join(captured.out.split())
    accuracy = re.search(r"exact test accuracy ([0-9.]+) %", note)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97.0
    assert "95 % interval" in note
    assert "359 examples" in note
    assert "training 1380/1380" in captured.err


@pytest.mark.slow
def test_a_planted_bug_is_shown_with_what_caught_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few checks of the recipe are enough to see what is said of them."""
    monkeypatch.setattr("jaxrecipe.recipe.check", partial(recipe.check, only=["loss_at_init", "overfit_one_batch"]))
    assert main(["demo", "--bug", "softmax_twice"]) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "Planted: softmax_twice." in words
    assert re.search(r"Caught by [^.;]*overfit_one_batch", words)
    assert "Its cause (loss/softmax-twice) is the likeliest" in words


def test_a_bug_that_nothing_catches_is_not_glossed_over() -> None:
    from jaxrecipe.cli.demonstration import with_verdict
    from jaxrecipe.demo.bugs import find_bug

    one = Result(name="a", stage="data", summary="", findings=(warning("loss/flat", "Flat."),))
    report = with_verdict(Report(task="digits", results=(one,)), find_bug("unseeded"))
    assert report.notes[-2] == "No check failed; warned by a."
    assert "is not named" in report.notes[-1]
    named = replace(one, findings=(warning("loss/flat", "F.", causes=causes("step/initialization-not-reproducible")),))
    report = with_verdict(Report(task="digits", results=(named,)), find_bug("unseeded"))
    assert "step/initialization-not-reproducible) is the likeliest" in report.notes[-1]


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


def test_a_terminal_gets_colors(
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
