"""torch.amp.GradScaler with autocast, as PyTorch's examples train: scale, backward, unscale_, clip, step, update,
scheduler.step.
"""

import os
from typing import Any

import numpy as np
import torch

from experiments.precision_peers.common import WIDTH, NotOfferedError, Options, Trainer, looped


def make(options: Options, saved: Any = None) -> Trainer:
    """See the module; `saved` is what to restore from."""
    if options.static is not None:
        raise NotOfferedError("no static scale")
    if options.floor is not None:
        raise NotOfferedError("no floor")
    weights = torch.nn.Parameter(torch.zeros(WIDTH, 1))
    stats = torch.zeros(WIDTH)
    optimizer = torch.optim.SGD([weights], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) if options.schedule else None
    given = {"init_scale": options.initial, "growth_interval": options.growth_every}
    scaler = torch.amp.GradScaler("cpu", **{name: value for name, value in given.items() if value is not None})
    seen: list[str] = []

    def forward(batch: torch.Tensor) -> Any:
        half: Any = options.half if options.dtype_as_text else getattr(torch, options.half)
        with torch.autocast("cpu", dtype=half):
            outputs = batch @ weights
        seen[:] = [str(outputs.dtype).removeprefix("torch.")]
        dtype = torch.float16 if options.half_loss else torch.float32
        return outputs.to(dtype).mean() * options.gain + options.offset

    def step(rows: np.ndarray) -> float:
        batch = torch.from_numpy(rows)
        optimizer.zero_grad()
        loss = forward(batch)
        # BatchNorm moves its statistics in the forward pass, where the scaler has no say.
        stats.mul_(0.9).add_(0.1 * batch.mean(dim=0))
        scaler.scale(loss).backward()
        if options.clip is not None:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_value_([weights], options.clip)
        scaler.step(optimizer)
        scaler.update()
        if scheduler is not None:
            scheduler.step()
        return float(loss.detach())

    def reload(directory: str) -> Trainer:
        path = os.path.join(directory, "state.pt")
        os.makedirs(directory, exist_ok=True)
        torch.save({"w": weights.data, "scaler": scaler.state_dict(), "optimizer": optimizer.state_dict()}, path)
        return make(options, torch.load(path))

    def compute_dtype() -> str:
        forward(torch.zeros(8, WIDTH))
        return seen[0]

    if saved is not None:
        weights.data.copy_(saved["w"])
        scaler.load_state_dict(saved["scaler"])
        optimizer.load_state_dict(saved["optimizer"])
    return Trainer(
        step=step,
        weights=lambda: np.array(weights.detach()[:, 0]),
        stats=lambda: stats.numpy().copy(),
        scale=scaler.get_scale,
        compute_dtype=compute_dtype,
        reload=reload,
        run=looped(step),
    )
