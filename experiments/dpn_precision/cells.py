"""What is measured: one cell of the matrix, the matrix itself, and the article's table of 2019."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from jaxrecipe.models import DPN26, DPN92, DPNConfig

TINY = DPNConfig(blocks=(1, 1), bottleneck=(8, 16), residual=(16, 32), dense=(4, 4), strides=(2, 2), groups=4, stem=8)
"""Small enough for tests of the runner and, on a CPU, for loss curves; its times say nothing."""
MODELS = {"dpn92": DPN92, "dpn26": DPN26, "tiny": TINY}
FRAMEWORKS = ("jax", "torch", "torch-compile")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16", "float16")
SCALES = ("none", "64", "128", "256", "dynamic")
EPOCH = 50_000
"""Images of an epoch of CIFAR-10."""
PRINT_EVERY = 50


@dataclass(frozen=True)
class Cell:
    """One configuration, measured in its own process.

    Attributes:
        framework: one of FRAMEWORKS.
        precision: one of PRECISIONS; float32 is the strict one.
        batch: images a step.
        loss_scale: one of SCALES; "none" unless the precision is float16.
        model: one of MODELS.
        data: "cifar10", "digits" (real, enlarged to 32×32×3) or "random".
        device: "cpu" or "gpu".
        steps: timed steps of one visit.
        train: steps of training from scratch whose loss is recorded; 0 for none.
        seed: of parameters, data order and augmentation.
    """

    framework: str
    precision: str
    batch: int
    loss_scale: str = "none"
    model: str = "dpn92"
    data: str = "random"
    device: str = "cpu"
    steps: int = 20
    train: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        """Unique in a matrix."""
        scale = "" if self.loss_scale == "none" else f"-scale-{self.loss_scale}"
        return f"{self.model}-{self.framework}-{self.precision}{scale}-batch-{self.batch}-{self.data}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `Cell(**cell.as_dict())` gives it back."""
        return asdict(self)


def matrix(
    frameworks: Sequence[str], precisions: Sequence[str], batches: Sequence[int], scales: Sequence[str], **common: Any
) -> list[Cell]:
    """Every combination; loss scales only where the precision is float16."""
    cells = []
    for framework, precision, batch in product(frameworks, precisions, batches):
        plain = Cell(framework, precision, batch, **common)
        if precision == "float16":
            cells += [replace(plain, loss_scale=scale) for scale in scales]
        else:
            cells.append(plain)
    return cells


@dataclass(frozen=True)
class ArticleRow:
    """One run of the 2019 comparison (RTX Titan 24 GB, PyTorch 1.0, apex); None where the article says nothing."""

    precision: str
    batch: int
    loss_scale: str
    epoch_seconds: int | None
    printed: str
    memory: str


ARTICLE = (
    ArticleRow("float32", 128, "none", 213, "350 391 Loss: 1.817 | Acc: 33.224% (14927/44928)", ""),
    ArticleRow("float32", 256, "none", 204, "150 196 Loss: 1.905 | Acc: 29.134% (11262/38656)", ""),
    ArticleRow("float32", 512, "none", None, "out of memory", "> 21 GB"),
    ArticleRow("float16", 128, "128", 169, "350 391 Loss: 1.831 | Acc: 31.987% (14371/44928)", ""),
    ArticleRow("float16", 256, "128", 150, "150 196 Loss: 1.947 | Acc: 27.491% (10627/38656)", "13 GB"),
    ArticleRow("float16", 512, "128", 140, "50 98 Loss: 2.182 | Acc: 17.601% (4596/26112)", "21.87 GB"),
    ArticleRow("float16", 640, "128", None, "out of memory", ""),
    ArticleRow("float16", 512, "64", 140, "50 98 Loss: 2.167 | Acc: 18.624% (4863/26112)", ""),
    ArticleRow("float16", 512, "256", 140, "50 98 Loss: 2.224 | Acc: 16.885% (4409/26112)", ""),
)


def log_line(step: int, steps: int, losses: Sequence[float], corrects: Sequence[float], images: int) -> str:
    """One line of the training log in the article's form: means over the epoch so far, `step` counted from 0."""
    loss, correct = sum(losses) / len(losses), round(sum(corrects))
    return f"{step} {steps} Loss: {loss:.3f} | Acc: {100 * correct / images:.3f}% ({correct}/{images})"


def epoch_log(losses: Sequence[float], corrects: Sequence[float], counts: Sequence[float], steps: int) -> list[str]:
    """The article's log lines of one epoch of `steps`, of which the first ones were taken."""
    return [
        log_line(i, steps, losses[: i + 1], corrects[: i + 1], round(sum(counts[: i + 1])))
        for i in range(0, len(losses), PRINT_EVERY)
    ]
