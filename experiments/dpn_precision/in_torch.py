"""The PyTorch side of a cell: autocast, GradScaler, channels_last, fused SGD, and torch.compile where asked for."""

import contextlib
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from experiments.dpn_precision import images as data
from experiments.dpn_precision.cells import MODELS, Cell
from experiments.dpn_precision.costs import cpu_name
from experiments.dpn_precision.side import Side
from experiments.dpn_precision.start import for_torch
from experiments.dpn_precision.torch_dpn import TorchDPN
from jaxrecipe.data import CIFAR10_MEAN, CIFAR10_STD

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def scaler_for(cell: Cell, device: str) -> Any:
    """GradScaler as the cell asks; a static scale is one that never grows and is set back after each step."""
    if cell.loss_scale == "none":
        return None
    if cell.loss_scale == "dynamic":
        return torch.amp.GradScaler(device, init_scale=2.0**15)
    return torch.amp.GradScaler(device, init_scale=float(cell.loss_scale), growth_interval=2**31 - 1)


def augment(images: Tensor, padding: int = 4) -> Tensor:
    """Random crops and mirror images, one draw an image, on the device."""
    batch, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1), device=images.device)
    rows, columns = top + torch.arange(height, device=images.device), left + torch.arange(width, device=images.device)
    flip = torch.rand((batch, 1), device=images.device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    which = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def prepare(cell: Cell, *, channels_last: bool = True, mode: str | None = None) -> Side:
    """Make model, optimizer and data of a cell; with torch.compile the first steps compile.

    Args:
        cell: what to run.
        channels_last: memory format; on a CPU eager PyTorch is twice as fast with it (NOTES.md), and so it is the
            default everywhere.
        mode: of torch.compile; by default "max-autotune" on a GPU and "default" on a CPU.
    """
    device = "cuda" if cell.device == "gpu" else "cpu"
    torch.manual_seed(cell.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = cell.precision == "tensorfloat32"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = TorchDPN(MODELS[cell.model]).to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    start = for_torch(model.state_dict(), cell.seed)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()}, strict=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    scaler, compiles = scaler_for(cell, device), cell.framework == "torch-compile"
    forward: Any = model
    if compiles:
        forward = torch.compile(model, mode=mode or ("max-autotune" if device == "cuda" else "default"))
    images, labels = data.load(cell.data, cell.seed)
    resident = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    targets = torch.from_numpy(labels).long().to(device)
    mean, std = (torch.tensor(values, device=device)[None, :, None, None] for values in (CIFAR10_MEAN, CIFAR10_STD))
    half, kept = HALF.get(cell.precision), []
    missed = torch.zeros((), device=device)

    def advance(number: int) -> None:
        chosen, mask = (
            torch.from_numpy(a).to(device) for a in data.indices(cell.seed, number, len(labels), cell.batch)
        )
        inputs = (resident[chosen].float() / 255 - mean) / std
        inputs = (augment(inputs) if data.augmented(cell.data) else inputs).contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, half) if half else contextlib.nullcontext():
            outputs = forward(inputs)
        losses = functional.cross_entropy(outputs.float(), targets[chosen], reduction="none")
        loss = torch.where(mask, losses, 0).sum() / mask.sum()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            missed.add_(_overflowed(scaler, optimizer))
            scaler.update(None if cell.loss_scale == "dynamic" else float(cell.loss_scale))
        correct = ((outputs.argmax(1) == targets[chosen]) & mask).sum()
        kept.append(torch.stack([loss.detach(), correct.float(), mask.sum().float()]))

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    compile_seconds = 0.0
    if compiles:
        start = time.perf_counter()
        _warm_up(forward, resident, cell, layout, half, device)
        wait()
        compile_seconds = time.perf_counter() - start
    return Side(
        advance=advance,
        wait=wait,
        measured=lambda: torch.stack(kept).cpu().numpy() if kept else np.zeros((0, 3)),
        skipped=lambda: int(missed),
        peak_bytes=lambda: torch.cuda.max_memory_allocated() if device == "cuda" else None,
        compile_seconds=compile_seconds,
        compiled_bytes=None,
        device=torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        notes={"memory format": "channels_last" if channels_last else "contiguous"},
    )


def _overflowed(scaler: Any, optimizer: Any) -> Any:
    """1 when this step's gradients were not finite; read from the scaler without waiting for the device."""
    found = scaler._found_inf_per_device(optimizer)
    return next(iter(found.values()))


def _warm_up(forward: Any, resident: Tensor, cell: Cell, layout: Any, half: Any, device: str) -> None:
    """Compile forward and backward without changing weights; BatchNorm's statistics see some noise."""
    inputs = torch.zeros((cell.batch, *resident.shape[1:]), device=device).contiguous(memory_format=layout)
    with torch.autocast(device, half) if half else contextlib.nullcontext():
        outputs = forward(inputs)
    outputs.float().sum().backward()
