"""Models to try the recipe on: small ones for demonstrations, and the DPN family with its fast layers."""

from jaxrecipe.models.batch_norm import BatchNorm
from jaxrecipe.models.dpn import DPN, DPN26, DPN92, DPNConfig
from jaxrecipe.models.grouped_conv import (
    Formulation,
    GroupedConv,
    choose_formulation,
    grouped_conv,
    measure_formulations,
)
from jaxrecipe.models.simple import MLP, ConvNet, NNXConvNet

__all__ = [
    "DPN",
    "DPN26",
    "DPN92",
    "MLP",
    "BatchNorm",
    "ConvNet",
    "DPNConfig",
    "Formulation",
    "GroupedConv",
    "NNXConvNet",
    "choose_formulation",
    "grouped_conv",
    "measure_formulations",
]
