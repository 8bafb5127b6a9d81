"""Policies: what is cast, what is not, and what names mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.models.simple import ConvNet
from jaxrecipe.precision.policy import (
    Policy,
    apply_policy,
    cast_inputs,
    cast_outputs,
    cast_params,
    parse_policy,
    storage_params,
)

F32, F16, BF16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.float16), jnp.dtype(jnp.bfloat16)
PARAMS = {
    "LayerNorm_0": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
    "Dense_0": {"kernel": jnp.ones((3, 2))},
    "table": jnp.arange(4),
}


def dtypes(tree):
    return jax.tree.map(lambda leaf: leaf.dtype.name, tree)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("float32", Policy()),
        ("bfloat16", Policy(compute_dtype=BF16)),
        ("float16", Policy(compute_dtype=F16)),
        ("strict_float32", Policy(matmul="highest")),
        ("tensorfloat32", Policy(matmul="tensorfloat32")),
        ("params=float32,compute=bfloat16,output=float32", Policy(compute_dtype=BF16)),
        ("p=bf16, c=bf16, o=f32", Policy(param_dtype=BF16, compute_dtype=BF16)),
        ("compute=float16,matmul=highest", Policy(compute_dtype=F16, matmul="highest")),
        ("params=full", Policy()),
    ],
)
def test_names(text, wanted):
    assert parse_policy(text) == wanted
    assert parse_policy(wanted) is wanted


def test_equal_policies_hash_alike_however_the_dtype_was_given():
    given = ["bfloat16", jnp.bfloat16, BF16, np.dtype("bfloat16")]
    policies = {Policy(compute_dtype=dtype, overrides=(("norm*", dtype),)) for dtype in given}
    assert len(policies) == 1


@pytest.mark.parametrize(
    "text", ["half", "", "fp16", "compute=half", "comput=float16", "p=f32,params=f32", "compute=int32"]
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(ValueError, match="precision policy"):
        parse_policy(text)


def test_all_bad_fields_are_named_at_once():
    with pytest.raises(
        ValueError, match=r"param_dtype is int32.*compute_dtype is 'foo'.*output_dtype is None.*'x\*'.*matmul"
    ):
        Policy(
            param_dtype="int32", compute_dtype="foo", output_dtype=None, overrides=(("x*", "uint8"),), matmul="nonsense"
        )


@pytest.mark.parametrize("half", ["bfloat16", "float16", F16])
def test_a_dtype_given_as_a_string_is_honoured(half):
    policy = Policy(compute_dtype=half)
    assert cast_params(policy, PARAMS)["Dense_0"]["kernel"].dtype == jnp.dtype(half)


def test_overrides_by_path_first_fit_first():
    policy = Policy(compute_dtype=F16, overrides=(("LayerNorm_*/bias", "bfloat16"), ("LayerNorm_*", "float32")))
    assert dtypes(cast_params(policy, PARAMS)) == {
        "LayerNorm_0": {"scale": "float32", "bias": "bfloat16"},
        "Dense_0": {"kernel": "float16"},
        "table": "int32",
    }


def test_storage_keeps_overridden_parameters_wide():
    policy = Policy(param_dtype=BF16, compute_dtype=BF16, overrides=(("LayerNorm_*", "float32"),))
    stored = storage_params(policy, PARAMS)
    assert dtypes(stored)["LayerNorm_0"] == {"scale": "float32", "bias": "float32"}
    assert dtypes(stored)["Dense_0"] == {"kernel": "bfloat16"}
    assert dtypes(storage_params(Policy(compute_dtype=F16), PARAMS))["Dense_0"] == {"kernel": "float32"}


def test_none_integers_and_keys_pass_through():
    inputs = {"ids": jnp.arange(3), "mask": jnp.ones(3, bool), "x": jnp.ones(3), "key": jax.random.key(0), "none": None}
    cast = cast_inputs(parse_policy("float16"), inputs)
    assert cast["x"].dtype == F16
    assert (cast["ids"].dtype, cast["mask"].dtype, cast["none"]) == (jnp.int32, jnp.bool_, None)
    assert cast_outputs(parse_policy("float16"), None) is None
    assert cast_params(parse_policy("float16"), None) is None


@pytest.mark.parametrize("name", ["float32", "strict_float32"])
def test_float32_touches_nothing_whatever_the_model_uses(name):
    tree = {"half": jnp.ones(2, jnp.float16), "host": np.ones(2, np.float64)}
    policy = parse_policy(name)
    for cast in (cast_params, cast_inputs, cast_outputs, storage_params):
        assert cast(policy, tree) is tree


def test_float32_adds_no_operation():
    def apply(params, state, inputs, *, train, key):
        return inputs @ params, state

    assert apply_policy(apply, Policy()) is apply


def linen_apply(module):
    def apply(params, state, inputs, *, train, key=None):
        if train:
            return module.apply({"params": params, **state}, inputs, train=True, mutable=["batch_stats"])
        return module.apply({"params": params, **state}, inputs, train=False), state

    return apply


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_a_model_computes_in_half_and_keeps_its_statistics_in_float32(half):
    module, images = ConvNet(features=(4,), classes=3), jnp.ones((2, 8, 8, 1))
    variables = module.init(jax.random.key(0), images)
    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    apply = apply_policy(linen_apply(module), parse_policy(half))
    # Flax's BatchNorm itself mixes float32 statistics with half activations, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        outputs, after = apply(params, state, images, train=True, key=None)
        text = str(jax.make_jaxpr(lambda p: apply(p, state, images, train=True, key=None)[0])(params))
    assert outputs.dtype == F32
    assert set(jax.tree.leaves(dtypes(after))) == {"float32"}
    convolution = next(line for line in text.splitlines() if "conv_general_dilated[" in line)
    assert {"bfloat16": "bf16", "float16": "f16"}[half] in convolution.split("=")[0]


def test_half_state_from_the_model_is_widened_to_what_it_was():
    def apply(params, state, inputs, *, train, key):
        moved = {"mean": inputs.mean(), "count": state["count"] + jnp.int32(1)} if state else {"mean": inputs.mean()}
        return inputs, moved

    applied = apply_policy(apply, parse_policy("bfloat16"))
    _, state = applied({}, {"mean": jnp.float32(0), "count": jnp.int32(0)}, jnp.ones(3), train=True, key=None)
    assert (state["mean"].dtype, state["count"].dtype) == (F32, jnp.int32)
    _, state = applied({}, {}, jnp.ones(3), train=True, key=None)
    assert state["mean"].dtype == F32


@pytest.mark.parametrize(
    ("name", "wanted"), [("strict_float32", "HIGHEST)"), ("tensorfloat32", "HIGH)"), ("float32", None)]
)
def test_matmul_precision_reaches_forward_and_backward_products(name, wanted):
    module = nn.Dense(3)
    inputs = jnp.ones((2, 4))
    params = module.init(jax.random.key(0), inputs)["params"]

    def apply(params, state, inputs, *, train, key):
        return module.apply({"params": params}, inputs), state

    applied = apply_policy(apply, parse_policy(name))
    grad = jax.grad(lambda p, x: applied(p, {}, x, train=True, key=None)[0].sum(), argnums=(0, 1))
    text = str(jax.make_jaxpr(grad)(params, inputs))
    assert text.count("dot_general[") == 3
    precisions = [line for line in text.splitlines() if "precision=(" in line]
    assert len(precisions) == (3 if wanted else 0)
    assert all(line.strip().endswith(wanted) for line in precisions)


def test_gradients_come_back_in_the_stored_dtype():
    applied = apply_policy(lambda p, s, x, *, train, key: (x @ p, s), parse_policy("bfloat16"))
    grads = jax.grad(lambda p: applied(p, {}, jnp.ones((2, 3)), train=True, key=None)[0].sum())(jnp.ones((3, 2)))
    assert grads.dtype == F32
    np.testing.assert_array_equal(grads, np.full((3, 2), 2.0))
