"""Reports made up for the tests: every status, every kind of evidence, and what could break a renderer."""

import numpy as np

from jaxrecipe.report.result import Curve, Histogram, Images, Matrix, Report, Result, Status, Table

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
        Histogram(title="Odd edges", edges=np.array([-np.inf, 0.0, np.inf]), counts={"half": np.array([3, np.nan])}),
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
    grey = np.stack([np.roll(ramp, shift) for shift in range(12)])
    spoilt = grey[:2].copy()
    spoilt[0, 2, 3] = np.nan
    return (
        Images(title="Grey", images=grey, captions=[f"#{i} labelled {i % 10}" for i in range(12)]),
        Images(title="Colour", images=rng.integers(0, 256, (6, 32, 32, 3), np.uint8), captions=["a", EVIL], high=255.0),
        Images(title="With alpha", images=rng.random((2, 16, 16, 4), np.float32)),
        Images(title="One channel, standardised", images=rng.normal(size=(3, 12, 12, 1)), low=-2.0, high=2.0),
        Images(title="A NaN pixel", images=spoilt, captions=("look", "")),
        Images(title="No images", images=np.zeros((0, 8, 8))),
    )


def tables() -> tuple[Table, ...]:
    rows = [(f"Dense_{i}/kernel", i * 1000, 10.0**-i, i % 2 == 0) for i in range(30)]
    return (
        Table(title="Layers", columns=("layer", "parameters", "update ratio", "trained"), rows=rows),
        Table(
            title="Odd values", columns=("name", EVIL), rows=[("nan", float("nan")), ("inf", float("inf")), (EVIL, -1)]
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


def results() -> tuple[Result, ...]:
    """One of each status, with every evidence somewhere."""
    return (
        Result(
            name="finite_inputs",
            stage="data",
            status=Status.PASS,
            finding="All 1,437 training inputs are finite.",
            seconds=0.04,
        ),
        Result(
            name="look_at_batch",
            stage="data",
            status=Status.WARN,
            finding="Inputs have mean 4.9 and standard deviation 6.0: they are not scaled.",
            hint="Scale the inputs to about zero mean and unit variance in Task.prepare.",
            measured={"mean": 4.88, "deviation": 6.01, "constant_features": 3},
            expected={"mean": "-1 … 1", "deviation": "0.3 … 3"},
            thresholds={"largest_mean": 1.0},
            evidence=(*images(), *histograms()),
            seconds=0.31,
            programs=2,
        ),
        Result(
            name="loss_at_init",
            stage="skeleton",
            status=Status.PASS,
            finding="The loss at initialisation is what an ignorant model scores.",
            measured={"loss": 2.3146},
            expected={"loss": 2.3026},
            thresholds={"tolerance": 0.1},
            evidence=curves()[:1],
            seconds=1.2,
            programs=3,
        ),
        Result(
            name="chart_dependencies",
            stage="skeleton",
            status=Status.FAIL,
            finding="The loss of example 17 depends on the input of example 150: examples leak into one another.",
            hint="Look for a reshape where a transpose was meant, or for a mean or softmax over the batch axis.",
            measured={"largest_leak": 0.6, "ok": False, "worst": float("nan")},
            expected={"largest_leak": 0.0, "worst": "finite"},
            thresholds={"tolerance": 1e-6},
            evidence=matrices(),
            seconds=2.75,
            programs=4,
        ),
        Result(
            name="input_independent_baseline",
            stage="skeleton",
            status=Status.EXPECTED,
            finding="Zeroed inputs do as well as real ones. Expected (FAIL): the labels are random on purpose.",
            hint="Check that inputs and labels are shuffled together.",
            evidence=curves()[:3],
            seconds=6.4,
            programs=2,
        ),
        Result(
            name="human_baseline",
            stage="skeleton",
            status=Status.SKIP,
            finding="No human labels were given.",
        ),
        Result(
            name="overfit_one_batch",
            stage="overfit",
            status=Status.CRASHED,
            finding="The check stopped with ValueError: <boom>",
            hint="This says nothing about your set-up; see the traceback.",
            evidence=(traceback(), *tables(), *curves()),
            seconds=75.0,
            programs=1,
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
    evil = Result(
        name=EVIL, stage=EVIL, status=Status.FAIL, finding=EVIL, hint=EVIL, measured={EVIL: EVIL}, expected={EVIL: EVIL},
        thresholds={EVIL: EVIL}, evidence=evidence,
    )  # fmt: skip
    huge = Result(
        name="n" * 500,
        stage="s" * 300,
        status=Status.WARN,
        finding="word" * 400,
        hint="h" * 600,
        measured={"m" * 200: "v" * 500},
    )
    escape = Result(
        name="esc\x1b[31m", stage="data", status=Status.WARN, finding="bell\x07 and \x1b]0;title\x07", hint="\u202eabc"
    )
    return Report(task=EVIL, results=(evil, huge, escape), versions={EVIL: EVIL}, notes=(EVIL, "\udc80"))
