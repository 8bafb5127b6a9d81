"""Healthy set-ups, each a function of a seed, which chooses the split of the data and whatever noise there is. All
train well.
"""

from jaxrecipe.catalogue.bases.pictures import (
    augmented_convnet,
    class_weights,
    contrastive,
    convnet,
    dropout,
    float16,
    float16_unit,
    frozen_backbone,
    picture_mlp,
    recurrent,
    resnet,
    segmentation,
    table_mlp,
    two_heads,
    two_inputs,
)
from jaxrecipe.catalogue.bases.text import padded_transformer, transformer
from jaxrecipe.catalogue.bases.values import autoencoder, regression, three_parameters, total_ink, total_ink_from_zero
from jaxrecipe.catalogue.bases.yes_no import balanced_binary, binary, multi_label, zero_bias_binary

__all__ = [
    "augmented_convnet",
    "autoencoder",
    "balanced_binary",
    "binary",
    "class_weights",
    "contrastive",
    "convnet",
    "dropout",
    "float16",
    "float16_unit",
    "frozen_backbone",
    "multi_label",
    "padded_transformer",
    "picture_mlp",
    "recurrent",
    "regression",
    "resnet",
    "segmentation",
    "table_mlp",
    "three_parameters",
    "total_ink",
    "total_ink_from_zero",
    "transformer",
    "two_heads",
    "two_inputs",
    "zero_bias_binary",
]
