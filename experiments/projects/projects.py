"""The projects."""

from experiments.projects.project import Project

PROJECTS = (
    Project(
        name="flax_mnist",
        repository="google/flax",
        commit="18f8f311c275d57f46d95e41b15aa97b454754c0",
        about="nnx, pictures, classifier with BatchNorm and dropout",
        script="examples/mnist/main.py",
        arguments=("--workdir=/tmp/flax_mnist", "--config=configs/default.py"),
        packages=("clu", "ml_collections", "absl-py"),
        data="digits enlarged to 28 by 28",
    ),
    Project(
        name="haiku_vae",
        repository="google-deepmind/dm-haiku",
        commit="f4d858a5cbb29140855d68f81f5fd625e078a5ae",
        about="haiku, binarized pictures, VAE",
        script="examples/vae.py",
        packages=("dm-haiku", "absl-py"),
        data="digits enlarged to 28 by 28, binarized",
    ),
    Project(
        name="equinox_diffusion",
        repository="patrick-kidger/equinox",
        commit="9336d820b2ef66b360fc6cb3611b3da5cefbb14d",
        about="equinox, pictures, score-based diffusion",
        script="docs/examples/score_based_diffusion.ipynb",
        packages=("equinox", "einops"),
        data="digits enlarged to 28 by 28",
    ),
    Project(
        name="gpt_jax",
        repository="jenkspt/gpt-jax",
        commit="f22a46e81e72fd44c8115f8b63dcfa53eb0a6d14",
        about="linen, text, language model under pmap",
        script="train.py",
        packages=("tyro", "wandb"),
        data="prose that Python ships",
    ),
)
