"""The projects."""

from functools import partial

from experiments.projects.project import Project

flax = partial(Project, repository="google/flax", commit="18f8f311c275d57f46d95e41b15aa97b454754c0")
haiku = partial(Project, repository="google-deepmind/dm-haiku", commit="f4d858a5cbb29140855d68f81f5fd625e078a5ae")
equinox = partial(Project, repository="patrick-kidger/equinox", commit="9336d820b2ef66b360fc6cb3611b3da5cefbb14d")
jax = partial(Project, repository="jax-ml/jax", commit="cec06d116c05f0d52adfceee3d3b730fdbcb0ce5")
flaxdocs = partial(Project, repository="mlnomadpy/flaxdocs", commit="1eda4a34032021b2acff2e907bbf6de6762d169b")
DIGITS = "digits enlarged to 28 by 28"

PROJECTS = (
    flax(
        name="flax_mnist",
        about="nnx, pictures, classifier with BatchNorm and dropout",
        script="examples/mnist/main.py",
        arguments=("--workdir=/tmp/flax_mnist", "--config=configs/default.py", "--config.batch_size=32"),
        options=("--batches", "8"),
        packages=("clu", "ml_collections", "absl-py"),
        data=DIGITS,
        idle=("tensorboard",),
    ),
    flax(
        name="flax_vae",
        about="linen, TrainState, VAE; its step is not compiled",
        script="examples/vae/main.py",
        arguments=("--workdir=/tmp/flax_vae", "--config=configs/default.py", "--config.batch_size=32"),
        options=("--step", "train:train_step", "--batches", "8"),
        packages=("clu", "ml_collections", "absl-py"),
        data=f"{DIGITS}, binarized",
    ),
    flax(
        name="flax_seq2seq",
        about="linen, TrainState, LSTM that adds numbers",
        script="examples/seq2seq/train.py",
        arguments=("--workdir=/tmp/flax_seq2seq", "--batch_size=32", "--hidden_size=64"),
        options=("--batches", "8"),
        packages=("clu", "absl-py"),
        data="its own",
        idle=("tensorboard",),
    ),
    flax(
        name="flax_ogbg",
        about="linen, TrainState, graphs padded to one size, labels partly unknown",
        script="examples/ogbg_molpcba/train.py",
        how="from_step",
        packages=("clu", "ml_collections", "jraph"),
        data="random graphs whose labels follow from their nodes",
        idle=("tensorboard",),
    ),
    haiku(
        name="haiku_vae",
        about="haiku, binarized pictures, VAE",
        script="examples/vae.py",
        packages=("dm-haiku", "absl-py"),
        data=f"{DIGITS}, binarized",
    ),
    haiku(
        name="haiku_gan",
        about="haiku, pictures, GAN whose step trains both players",
        script="examples/mnist_gan.ipynb",
        options=("--batches", "8"),
        cells=(1, 2, 3, 4),
        packages=("dm-haiku",),
        data=DIGITS,
        idle=("seaborn",),
        changes=(("batch_size=64", "batch_size=4"),),
    ),
    equinox(
        name="equinox_diffusion",
        about="equinox, pictures, score-based diffusion",
        script="docs/examples/score_based_diffusion.ipynb",
        options=("--batches", "8"),
        packages=("equinox", "einops"),
        data=DIGITS,
        files=("data/mnist/train-images-idx3-ubyte.gz",),
        idle=("diffrax",),
        changes=(
            ("batch_size=256", "batch_size=32"),
            ("mix_hidden_size=512", "mix_hidden_size=64"),
            ("mix_patch_size=512", "mix_patch_size=64"),
        ),
    ),
    equinox(
        name="equinox_rnn",
        about="equinox, spirals, GRU",
        script="docs/examples/train_rnn.ipynb",
        options=("--batches", "16"),
        packages=("equinox",),
        data="its own",
    ),
    equinox(
        name="equinox_parallelism",
        about="equinox, regression on a mesh of 8 devices, donated state",
        script="docs/examples/parallelism.ipynb",
        options=("--batches", "16"),
        packages=("equinox",),
        data="its own",
    ),
    Project(
        name="gpt_jax",
        repository="jenkspt/gpt-jax",
        commit="f22a46e81e72fd44c8115f8b63dcfa53eb0a6d14",
        about="linen, text, language model under pmap on 2 devices",
        script="train.py",
        how="from_step",
        packages=("tyro",),
        data="prose that Python ships, by characters",
        idle=("wandb", "tensorflow"),
        devices=2,
    ),
    jax(
        name="jax_spmd",
        about="plain JAX, classifier on a mesh of 2 devices with explicit sharding, donated state",
        script="examples/spmd_mnist_classifier_fromscratch.py",
        options=("--batches", "8"),
        data=DIGITS,
        files=tuple(
            f"data/{name}-ubyte.gz"
            for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
        ),
        devices=2,
        changes=(("1024, 1024", "64, 64"), ("import datasets\n", "import datasets\n\ndatasets._DATA = 'data/'\n")),
    ),
    Project(
        name="jaxpi_allen_cahn",
        repository="PredictiveIntelligenceLab/jaxpi",
        commit="e85b6947b0795a1bf68169ba6d378be3c713a6d9",
        about="linen, physics-informed, sampled collocation points, pmap on 2 devices, no loss given back",
        script="examples/allen_cahn/main.py",
        arguments=(
            "--config=configs/default.py",
            "--config.training.batch_size_per_device=64",
            "--config.arch.hidden_dim=32",
            "--config.arch.num_layers=2",
        ),
        options=("--batches", "8"),
        packages=("ml_collections", "absl-py", "tabulate"),
        data="its own",
        idle=("wandb",),
        devices=2,
        restores=("tree_map",),
    ),
    Project(
        name="unet_segmentation",
        repository="PoffM/jax-image-segmentation-unet",
        commit="17b68bc52b1e350e26c3e44c0a4d97ec59a9ff8e",
        about="linen, TrainState with metrics in it, U-Net with BatchNorm",
        script="jax_image_segmentation_unet/train.py",
        options=("--batches", "4"),
        packages=("clu",),
        data=f"{DIGITS}, four a picture",
        changes=(("grid_wh = 4", "grid_wh = 2"), ("batch_size = 32", "batch_size = 4")),
    ),
    flaxdocs(
        name="flaxdocs_clip",
        about="nnx, contrastive, pictures and captions",
        script="examples/adaptation/clip_toy.py",
        options=("--batches", "8"),
        data="its own",
    ),
    flaxdocs(
        name="flaxdocs_gcn",
        about="nnx, graph convolution, two labelled nodes of one graph",
        script="examples/scientific/gcn_karate.py",
        options=("--batches", "8"),
        data="its own",
    ),
)
