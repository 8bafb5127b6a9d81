"""Arithmetic and activations of a DPN counted from its configuration, and what the hardware can do."""

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxrecipe.models import DPNConfig

BYTES = {"float32": 4, "tensorfloat32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Convolution:
    """One convolution (or the linear layer) on one image: multiply-adds and output values."""

    macs: int
    outputs: int


def convolutions(config: DPNConfig, size: int = 32) -> Iterator[Convolution]:
    """Every layer with a kernel, in order, for square images."""
    pixels, inputs = size * size, config.stem
    yield Convolution(9 * config.channels * config.stem * pixels, config.stem * pixels)
    stages = zip(config.blocks, config.bottleneck, config.residual, config.dense, config.strides, strict=True)
    for blocks, width, residual, dense, stride in stages:
        for block in range(blocks):
            yield Convolution(inputs * width * pixels, width * pixels)
            if block == 0:
                size = -(-size // stride)
                pixels = size * size
                yield Convolution(inputs * (residual + dense) * pixels, (residual + dense) * pixels)
            yield Convolution(9 * (width // config.groups) * width * pixels, width * pixels)
            yield Convolution(width * (residual + dense) * pixels, (residual + dense) * pixels)
            inputs = residual + (block + 2) * dense
    yield Convolution(inputs * config.classes, config.classes)


def training_flops(config: DPNConfig, size: int = 32) -> int:
    """Floating-point operations to train on one image: forward, and twice that backward; only what the kernels need."""
    return 6 * sum(layer.macs for layer in convolutions(config, size))


def kept_values(config: DPNConfig, size: int = 32) -> int:
    """Activations of one image that the backward pass needs: each convolution's output and, normalised, the next one's
    input.
    """
    return 2 * sum(layer.outputs for layer in convolutions(config, size))


PEAKS = {
    # Dense tensor-core (or, for float32, vector) teraflops from the makers' data sheets, float32 accumulation.
    "H200": {"float32": 67, "tensorfloat32": 494.7, "bfloat16": 989.4, "float16": 989.4},
    "H100": {"float32": 67, "tensorfloat32": 494.7, "bfloat16": 989.4, "float16": 989.4},
    "A100": {"float32": 19.5, "tensorfloat32": 156, "bfloat16": 312, "float16": 312},
    "TITAN RTX": {"float32": 16.3, "float16": 65.2},
}


def peak_flops(device: str, precision: str) -> float | None:
    """The data sheet's peak for a GPU's name, or None."""
    for name, peaks in PEAKS.items():
        if name in device and precision in peaks:
            return peaks[precision] * 1e12
    return None


def measured_cpu_flops(repeats: int = 5) -> float:
    """What a float32 matrix product of 2048×2048 reaches with numpy on all cores: the yardstick where there is no data
    sheet.
    """
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(a, a)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
