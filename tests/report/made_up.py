"""Reports made up for the tests: every status, every kind of evidence, and what could break a renderer."""

from dataclasses import replace

import numpy as np

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Curve, Histogram, Images, Matrix, Result, Status, Table, skipped

EVIL = "<script>alert(\"x\")</script> & 'quotes' </style>"


def curves() -> tuple[Curve, ...]:
    steps = np.arange(300)
    loss = 2.3 * np.exp(-steps / 60) + 0.08 * np.sin(steps / 3) ** 2
    spoilt = loss.copy()
    spoilt[[40, 41, 200]] = [np.nan, np.inf, -np.inf]
    return (
        Curve(
            title="Loss",
            x=steps,
            series={"real inputs": loss, "zeroed inputs": 2.3 - 0.2 * loss},
            levels={"log 10": 2.3026},
        ),
        Curve(title="Loss with holes", x=steps, series={"spoilt": spoilt}, y_label="loss", log_y=True),
        Curve(title="One point", x=np.array([3]), series={"only": np.array([0.5], np.float16)}),
        Curve(title="No points", x=np.array([]), series={"none": np.array([])}),
        Curve(title="No series", x=np.arange(3), series={}),
        Curve(title="All NaN", x=np.arange(4), series={"nan": np.full(4, np.nan)}, log_y=True),
        Curve(title="Extremes", x=np.arange(2), series={"wide": np.array([-1.7e308, 1.7e308])}),
        Curve(title="Many", x=steps, series={f"layer {i}/kernel": np.cos(steps / (9 + i)) + i for i in range(9)}),
    )


def histograms() -> tuple[Histogram, ...]:
    rng = np.random.default_rng(0)
    edges = np.linspace(-4, 4, 41)
    first, second = (np.histogram(rng.normal(mean, 1, 5000), edges)[0] for mean in (0, 1.2))
    return (
        Histogram(title="Pixel values", edges=edges, counts={"train": first, "test": second}, x_label="value"),
        Histogram(title="On a log scale", edges=edges, counts={"gradients": first}, log_y=True),
        Histogram(title="Empty histogram", edges=np.array([]), counts={}),
        Histogram(title="One bin", edges=np.array([1.0, 1.0]), counts={"same": np.array([7])}),
        Histogram(
            title="Infinite edges", edges=np.array([-np.inf, 0.0, np.inf]), counts={"half": np.array([3, np.nan])}
        ),
    )


def matrices() -> tuple[Matrix, ...]:
    rng = np.random.default_rng(1)
    leak = np.eye(200, dtype=np.float32)
    leak[17, 150] = 0.6
    spoilt = rng.normal(size=(5, 4))
    spoilt[1, 2], spoilt[3, 0], spoilt[4, 3] = np.nan, np.inf, -np.inf
    confusion = (np.eye(10) * 40 + rng.integers(0, 6, (10, 10))).astype(np.int64)
    digits = [str(digit) for digit in range(10)]
    return (
        Matrix(title="Who depends on whom", values=leak, row_label="loss of example", column_label="input of example"),
        Matrix(
            title="Confusion",
            values=confusion,
            row_label="label",
            column_label="predicted",
            row_names=digits,
            column_names=digits,
        ),
        Matrix(title="Spoilt", values=spoilt, row_names=[EVIL, "b", "c", "d", "e"]),
        Matrix(title="Logarithmic", values=10.0 ** -np.arange(48).reshape(6, 8), log=True),
        Matrix(title="Empty matrix", values=np.zeros((0, 3))),
        Matrix(title="One cell", values=np.array([[0.0]])),
        Matrix(title="Tall", values=rng.normal(size=(700, 3))),
    )


def images() -> tuple[Images, ...]:
    rng = np.random.default_rng(2)
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    gray = np.stack([np.roll(ramp, shift) for shift in range(12)])
    spoilt = gray[:2].copy()
    spoilt[0, 2, 3] = np.nan
    return (
        Images(title="Gray", images=gray, captions=[f"#{i} labeled {i % 10}" for i in range(12)]),
        Images(title="Color", images=rng.integers(0, 256, (6, 32, 32, 3), np.uint8), captions=["a", EVIL], high=255.0),
        Images(title="With alpha", images=rng.random((2, 16, 16, 4), np.float32)),
        Images(title="One channel, standardized", images=rng.normal(size=(3, 12, 12, 1)), low=-2.0, high=2.0),
        Images(title="A NaN pixel", images=spoilt, captions=("look", "")),
        Images(title="No images", images=np.zeros((0, 8, 8))),
    )


def tables() -> tuple[Table, ...]:
    rows = [(f"Dense_{i}/kernel", i * 1000, 10.0**-i, i % 2 == 0) for i in range(30)]
    return (
        Table(title="Layers", columns=("layer", "parameters", "update ratio", "trained"), rows=rows),
        Table(
            title="Strange values",
            columns=("name", EVIL),
            rows=[("nan", float("nan")), ("inf", float("inf")), (EVIL, -1)],
        ),
        Table(title="Empty table", columns=("a", "b"), rows=[]),
        Table(title="No columns", columns=(), rows=[]),
    )


def traceback() -> Table:
    lines = [
        "Traceback (most recent call last):",
        *(f'  File "model.py", line {n}, in f{n}' for n in range(20)),
        "ValueError: <boom>",
    ]
    return Table(title="Traceback", columns=("line",), rows=[(line,) for line in lines])


def ending(status: Status, name: str = "check", stage: str = "data") -> Result:
    """The plainest result of that status."""
    found = Finding(code="loss/softmax-twice", severity=Severity.FAIL, message="Found.")
    findings = {
        Status.FAIL: (found,),
        Status.WARN: (warning(found.code, found.message),),
        Status.EXPECTED: (found,),
    }
    ended = status if status in (Status.SKIP, Status.CRASHED, Status.TIMEOUT) else None
    expected = "known" if status is Status.EXPECTED else ""
    return Result(
        summary="Found.", findings=findings.get(status, ()), ended=ended, expected=expected, name=name, stage=stage
    )


def unscaled() -> Result:
    """A warning with two findings and pictures."""
    mean = Measure(name="mean", value=4.88, low=-1.0, high=1.0, severity=Severity.WARN, error=0.02)
    deviation = Measure(name="deviation", value=6.01, low=0.3, high=3.0, severity=Severity.WARN, unit="gray levels")
    return Result(
        summary="Inputs were measured.",
        findings=(
            warning(
                "data/inputs-not-scaled",
                "Inputs have mean 4.9 and standard deviation 6.0: they are not scaled.",
                measures=(mean, deviation),
            ),
            warning("data/constant-feature", "3 of 64 features are constant."),
        ),
        measures=(mean, deviation, Measure(name="constant features", value=3.0)),
        evidence=(*images(), *histograms()),
        name="look_at_batch",
        stage="data",
        thresholds={"largest_mean": 1.0},
        seconds=0.31,
        programs=2,
    )


def leaking() -> Result:
    """A failure with several causes, and a number that is not one."""
    leak = Measure(
        name="largest leak",
        value=0.6,
        high=0.0,
        low=0.0,
        code="model/reshape-for-transpose",
        thresholds={"high": "tolerance"},
    )
    return Result(
        summary="Every example was perturbed.",
        findings=(
            failure(
                "model/mixes-examples",
                "The loss of example 17 depends on the input of example 150: examples leak into one another.",
                measures=(leak,),
                causes=(
                    cause("model/reshape-for-transpose", here="Example 17 sees rows of example 150."),
                    cause("loss/mixes-examples"),
                ),
            ),
        ),
        measures=(leak, Measure(name="worst", value=float("nan"), low=0.0)),
        evidence=matrices(),
        name="chart_dependencies",
        stage="skeleton",
        thresholds={"tolerance": 1e-6},
        seconds=2.75,
        programs=4,
    )


def results() -> tuple[Result, ...]:
    """One of each status, with every evidence somewhere."""
    return (
        Result(summary="All 1,437 training inputs are finite.", name="finite_inputs", stage="data", seconds=0.04),
        unscaled(),
        Result(
            summary="The loss at initialization is what the constant predictor scores.",
            measures=(Measure(name="loss", value=2.3146, low=2.2, high=2.4, code="model/starts-far-off"),),
            evidence=curves()[:1],
            name="loss_at_init",
            stage="skeleton",
            thresholds={"tolerance": 0.1},
            seconds=1.2,
            programs=3,
        ),
        leaking(),
        Result(
            summary="Zeroed inputs were tried.",
            findings=(failure("data/labels-shuffled", "Zeroed inputs do as well as real ones."),),
            evidence=curves()[:3],
            expected="the labels are random on purpose",
            name="input_independent_baseline",
            stage="skeleton",
            seconds=6.4,
            programs=2,
        ),
        replace(skipped("No human labels were given."), name="human_baseline", stage="skeleton"),
        Result(
            summary="The check stopped with ValueError: <boom> This says nothing about your set-up.",
            evidence=(traceback(), *tables(), *curves()),
            ended=Status.CRASHED,
            name="overfit_one_batch",
            stage="overfit",
            seconds=75.0,
            programs=1,
        ),
        Result(
            summary="The check was ended after 600 s.",
            ended=Status.TIMEOUT,
            name="simplify",
            stage="overfit",
            seconds=600.0,
        ),
    )


def report() -> Report:
    """A report with everything in it."""
    return Report(
        task="digits ConvNet",
        results=results(),
        seed=3,
        seconds=86.7,
        programs=12,
        versions={"jax": "0.10.2", "flax": "0.12.8", "devices": "1 cpu"},
        notes=("Test accuracy 98.1 % (95 % interval 96.8 … 98.9 %, 360 examples).",),
    )


def evil_report() -> Report:
    """Names that try to break out of a page or a terminal, and names that are far too long."""
    evidence = (
        Curve(
            title=EVIL, x=np.arange(3), series={EVIL: np.arange(3.0)}, x_label=EVIL, y_label=EVIL, levels={EVIL: 1.0}
        ),
        Histogram(title=EVIL, edges=np.arange(3.0), counts={EVIL: np.ones(2)}, x_label=EVIL),
        Matrix(
            title=EVIL,
            values=np.eye(2),
            row_label=EVIL,
            column_label=EVIL,
            row_names=(EVIL, "b"),
            column_names=(EVIL, "d"),
        ),
        Images(title=EVIL, images=np.zeros((1, 2, 2)), captions=(EVIL,)),
        Table(title=EVIL, columns=(EVIL, "b"), rows=[(EVIL, 1)]),
    )
    words = Cause(code=EVIL, title=EVIL, harm=EVIL, fix=EVIL, here=EVIL)
    number = Measure(name=EVIL, value=1.0, high=0.0, unit=EVIL, code=EVIL, thresholds={"high": EVIL})
    found = Finding(
        code=EVIL, severity=Severity.FAIL, message=EVIL, measures=(number,), causes=(words, replace(words, code="b"))
    )
    evil = Result(
        summary=EVIL,
        findings=(found, replace(found, measures=())),
        evidence=evidence,
        name=EVIL,
        stage=EVIL,
        thresholds={EVIL: EVIL},
    )
    long = Cause(code="c" * 90, title="t" * 300, harm="h" * 600, fix="f" * 600)
    huge = Result(
        summary="",
        findings=(
            Finding(
                code="c" * 90,
                severity=Severity.WARN,
                message="word" * 400,
                measures=(Measure(name="m" * 200, value=1.0, high=0.0, unit="u" * 500),),
                causes=(long,),
            ),
        ),
        name="n" * 500,
        stage="s" * 300,
    )
    strange = Cause(code="x", title="\u202eabc", harm="", fix="")
    escape = Result(
        summary="",
        findings=(
            Finding(
                code="x",
                severity=Severity.WARN,
                message="bell\x07 and \x1b]0;title\x07",
                causes=(strange,),
            ),
        ),
        name="esc\x1b[31m",
        stage="data",
    )
    return Report(task=EVIL, results=(evil, huge, escape), versions={EVIL: EVIL}, notes=(EVIL, "\udc80"))
