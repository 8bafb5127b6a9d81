"""The PyTorch side: a dual path network from the same configuration as the Flax one.

Parameters bear the names under which the well-known CIFAR-10 examples save them (`conv1`, `layer1.0.bn2`, `linear`), so
that `convert.py` reads checkpoints of those, too. Works in either memory format; where the paths meet it does what is
quickest in
PyTorch: one sum in place of the first channels, one concatenation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from jaxrecipe.models import DPNConfig


class Block(nn.Module):
    """One bottleneck block; see `jaxrecipe.models.dpn.DualPathBlock`."""

    def __init__(self, inputs: int, config: DPNConfig, stage: int, *, first: bool) -> None:
        """Make the layers of one block of a stage (counted from 0)."""
        super().__init__()
        width, self.residual = config.bottleneck[stage], config.residual[stage]
        outputs, stride = self.residual + config.dense[stage], config.strides[stage] if first else 1
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=config.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if first:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Activations `[batch, channels, height, width]`, the residual path's channels first."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = functional.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        x = self.shortcut(x)
        added = x[:, : self.residual] + out[:, : self.residual]
        joined = torch.cat([added, x[:, self.residual :], out[:, self.residual :]], dim=1)
        return functional.relu(joined, inplace=True)


class TorchDPN(nn.Module):
    """The network of a configuration; images are `[batch, channels, height, width]`."""

    def __init__(self, config: DPNConfig) -> None:
        """Make the layers, with PyTorch's own initial values."""
        super().__init__()
        self.conv1 = nn.Conv2d(config.channels, config.stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        self.stages = len(config.blocks)
        inputs = config.stem
        for stage, blocks in enumerate(config.blocks):
            layers = []
            for block in range(blocks):
                layers.append(Block(inputs, config, stage, first=block == 0))
                inputs = config.residual[stage] + (block + 2) * config.dense[stage]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(inputs, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.linear(x.mean(dim=(2, 3)))
