"""The demonstration models against float64 numpy, and Linen against NNX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrecipe.models.simple import MLP, NNXMLP, ConvNet, NNXConvNet


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)


def conv_same(x, kernel):
    """3×3 cross-correlation with zero padding, as loops over positions."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = np.einsum("bhwi,hwio->bo", window, kernel)
    return out


def reference_convnet(params, images):
    """The training-mode forward pass in float64 numpy; also the batch means of each BatchNorm's input."""
    x, means = images.astype(np.float64), []
    for i in range(2):
        x = conv_same(x, np.asarray(params[f"Conv_{i}"]["kernel"], np.float64))
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        means.append(mean)
        norm = {name: np.asarray(leaf, np.float64) for name, leaf in params[f"BatchNorm_{i}"].items()}
        x = np.maximum((x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"], 0.0)
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    head = params["Dense_0"]
    return x.mean((1, 2)) @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"], np.float64), means


def test_convnet_equals_numpy_and_moves_its_statistics(images):
    net = ConvNet(features=(4, 6), classes=3)
    variables = net.init(jax.random.key(0), images)
    logits, moved = net.apply(variables, images, train=True, mutable=["batch_stats"])
    expected, means = reference_convnet(variables["params"], images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    for i, mean in enumerate(means):
        np.testing.assert_allclose(moved["batch_stats"][f"BatchNorm_{i}"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)


def test_no_bias_before_batchnorm(images):
    params = ConvNet().init(jax.random.key(0), images)["params"]
    assert set(params["Conv_0"]) == set(params["Conv_1"]) == {"kernel"}


def test_evaluation_leaves_statistics_and_does_not_mix_examples(images):
    net = ConvNet()
    variables = net.init(jax.random.key(0), images)
    whole = net.apply(variables, images)
    alone = net.apply(variables, images[2:3])
    np.testing.assert_allclose(whole[2:3], alone, rtol=1e-5, atol=1e-6)
    mixed, _ = net.apply(variables, images, train=True, mutable=["batch_stats"])
    assert not np.allclose(mixed, whole)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_decides_the_outputs_and_param_dtype_the_parameters(images, dtype):
    with jax.numpy_dtype_promotion("standard"):
        net = ConvNet(dtype=dtype)
        variables = net.init(jax.random.key(0), images)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        assert net.apply(variables, images).dtype == dtype
        mlp = MLP(param_dtype=dtype)
        params = mlp.init(jax.random.key(0), images.astype(dtype))["params"]
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


def test_nnx_convnet_equals_linen(images):
    net = ConvNet(features=(4, 6), classes=3)
    params = net.init(jax.random.key(0), images)["params"]
    twin = NNXConvNet((4, 6), 3, rngs=nnx.Rngs(0))
    for i in range(2):
        twin.convs[i].kernel[...] = params[f"Conv_{i}"]["kernel"]
    twin.head.kernel[...] = params["Dense_0"]["kernel"]
    expected, _ = reference_convnet(params, images)
    train = nnx.view(twin, use_running_average=False)
    np.testing.assert_allclose(train(images), expected, rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(twin.norms[0].mean[...]).max()) > 0


def test_mlps_equal_numpy(images):
    params = MLP((7,), 3).init(jax.random.key(1), images)["params"]
    flat = images.reshape(5, -1).astype(np.float64)
    first, last = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[f"Dense_{i}"]) for i in range(2))
    hidden = np.maximum(flat @ first["kernel"] + first["bias"], 0.0)
    expected = hidden @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(
        MLP((7,), 3).apply({"params": params}, images, train=True), expected, rtol=1e-4, atol=1e-5
    )
    twin = NNXMLP((7,), 3, inputs=64, rngs=nnx.Rngs(0))
    for i, layer in enumerate(twin.layers):
        layer.kernel[...] = params[f"Dense_{i}"]["kernel"]
        layer.bias[...] = params[f"Dense_{i}"]["bias"]
    np.testing.assert_allclose(twin(images), expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter(images):
    net = ConvNet(features=(4, 6), classes=3)
    variables = net.init(jax.random.key(0), images)

    def loss(params):
        logits, _ = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[:, 0].mean()

    grads = jax.grad(loss)(variables["params"])
    assert all(float(jnp.abs(leaf).max()) > 1e-6 for leaf in jax.tree.leaves(grads))
