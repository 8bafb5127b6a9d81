"""The benchmark's models in PyTorch, as far as the peers' cases need them. Pictures arrive `[batch, height, width,
channels]`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """Nothing is done."""
    return x


class Dense(nn.Module):
    """As `models.Dense`: LeCun-normal kernels and zero biases, as in Flax."""

    def __init__(
        self,
        inputs: int,
        features: Sequence[int] = (64, 64),
        outputs: int = 10,
        *,
        activation: Change = torch.relu,
        dropout: float = 0.0,
        always_drop: bool = False,
        layer_norm: bool = False,
        kernel: Callable[[Tensor], object] | None = None,
        bias: Callable[[Tensor], object] | None = None,
        final_bias: float | None = 0.0,
        squeeze: bool = False,
        before: Change = same,
        after: Change = same,
    ) -> None:
        """Make the layers; `before` and `after` are done to inputs and outputs."""
        super().__init__()
        widths = (inputs, *features, outputs)
        self.layers: Any = nn.ModuleList([nn.Linear(a, b) for a, b in itertools.pairwise(widths)])
        if final_bias is None:
            self.layers[-1] = nn.Linear(widths[-2], outputs, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for width in features] if layer_norm else [])
        self.activation, self.rate, self.always_drop, self.squeeze = activation, dropout, always_drop, squeeze
        self.before, self.after = before, after
        for layer in self.layers:
            (kernel or lecun)(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
                if bias is not None and layer is not self.layers[-1]:
                    bias(layer.bias)
        if final_bias:
            nn.init.constant_(self.layers[-1].bias, final_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs."""
        x = self.before(x.reshape(len(x), -1))
        for place, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            x = self.norms[place](x) if self.norms else x
            x = self.activation(x)
            x = nn.functional.dropout(x, self.rate, training=self.training or self.always_drop)
        x = self.after(self.layers[-1](x))
        return x[:, 0] if self.squeeze else x


def lecun(weight: Tensor) -> Tensor:
    """Normal with a variance of one over the fan-in."""
    return nn.init.normal_(weight, std=weight[0].numel() ** -0.5)


class ConvNet(nn.Module):
    """As the ConvNet with BatchNorm."""

    def __init__(self, *, after: Change = same, always_train: bool = False, before: Change = same) -> None:
        """Make the layers."""
        super().__init__()
        widths = (1, 16, 32)
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths[1:]])
        self.head = nn.Linear(32, 10)
        self.before, self.after, self.always_train = before, after, always_train
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> "ConvNet":
        """Training or evaluation; with `always_train` BatchNorm does not follow."""
        super().train(mode)
        if self.always_train:
            self.norms.train(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.before(x).permute(0, 3, 1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nn.functional.avg_pool2d(torch.relu(norm(conv(x))), 2)
        return self.after(self.head(x.mean(dim=(2, 3))))


class ResNet(nn.Module):
    """As the ResNet with GroupNorm."""

    def __init__(self, *, branch: Change = same) -> None:
        """Make the layers."""
        super().__init__()
        conv = lambda a: nn.Sequential(nn.Conv2d(a, 16, 3, padding=1, bias=False), nn.GroupNorm(4, 16))  # noqa: E731
        self.stem = conv(1)
        self.blocks = nn.ModuleList([nn.Sequential(conv(16), nn.ReLU(), conv(16)) for _ in range(2)])
        self.head = nn.Linear(64, 10)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.stem(x.permute(0, 3, 1, 2)))
        for block in self.blocks:
            x = torch.relu(x + self.branch(block(x)))
        return self.head(nn.functional.avg_pool2d(x, 4).flatten(1))


class Recurrent(nn.Module):
    """As the GRU over the rows of a picture."""

    def __init__(self, *, order: Change = same) -> None:
        """Make the layers."""
        super().__init__()
        self.cell, self.head, self.order = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10), order

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        states, _ = self.cell(self.order(x[..., 0]))
        return self.head(states[:, -1])


class Transformer(nn.Module):
    """As the small decoder."""

    def __init__(
        self, vocabulary: int, *, time: int = 32, causal: bool = True, merge: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Make the layers."""
        super().__init__()
        width, self.heads, self.causal = 32, 4, causal
        self.merge = merge or (lambda x: x.transpose(1, 2).reshape(len(x), x.shape[2], -1))
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.positions = nn.Parameter(0.1 * torch.randn(time, width))
        block = lambda: nn.ModuleDict(  # noqa: E731
            {
                "first": nn.LayerNorm(width),
                "second": nn.LayerNorm(width),
                "qkv": nn.Linear(width, 3 * width, bias=False),
                "out": nn.Linear(width, width),
                "up": nn.Linear(width, 2 * width),
                "down": nn.Linear(2 * width, width),
            }
        )
        self.blocks: Any = nn.ModuleList([block() for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        nn.init.normal_(self.head.weight, std=0.05)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits `[batch, time, vocabulary]`."""
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = x + self._attend(block, block["first"](x))
            x = x + block["down"](nn.functional.gelu(block["up"](block["second"](x))))
        return self.head(self.norm(x))

    def _attend(self, block: Any, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        qkv = block["qkv"](x).reshape(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*qkv, is_causal=self.causal)
        return block["out"](self.merge(mixed))


class Segmenter(nn.Module):
    """As the convolutional segmenter; logits `[batch, height, width, classes]`."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.second(torch.relu(self.first(x.permute(0, 3, 1, 2)))))
        return self.last(x).permute(0, 2, 3, 1)


class TwoInputs(nn.Module):
    """As the model of two inputs."""

    def __init__(self, *, ignore_second: bool = False) -> None:
        """Make the layers."""
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.hidden, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.ignore_second = ignore_second

    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Logits."""
        a, b = torch.relu(self.first(top.flatten(1))), torch.relu(self.second(bottom.flatten(1)))
        return self.head(torch.relu(self.hidden(torch.cat([a, a if self.ignore_second else b], dim=1))))
