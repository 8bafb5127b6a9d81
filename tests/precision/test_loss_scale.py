"""Loss scaling against a float64 reference written with Python numbers."""

from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe import trees
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.precision import loss_scale as scaling
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, no_loss_scale, static_loss_scale

few = settings(max_examples=25, deadline=None)
KINDS = [no_loss_scale(), static_loss_scale(64.0), dynamic_loss_scale()]
GOOD = (np.asarray(True), np.asarray(-1, np.int32))
BAD = (np.asarray(False), np.asarray(3, np.int32))


def changed():
    """A dynamic loss scale in which no field has its default value."""
    loss_scale = dynamic_loss_scale(
        init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3, min_scale=2.0**-6, max_scale=2.0**10
    )
    for outcome in (BAD, GOOD, BAD, BAD, GOOD, GOOD):
        loss_scale = scaling.update(loss_scale, *outcome)
    return replace(loss_scale, skipped_in_a_row=jnp.int32(2))


def values(loss_scale):
    return {field.name: np.asarray(getattr(loss_scale, field.name)).item() for field in fields(loss_scale)}


@dataclass
class Reference:
    """The rule in Python numbers: float64, no arrays, no tracing."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    min_scale: float
    max_scale: float
    good: int = 0
    skipped: int = 0
    in_a_row: int = 0

    def step(self, finite):
        if finite:
            self.in_a_row = 0
            self.good += 1
            if self.good == self.growth_interval:
                self.scale, self.good = min(self.scale * self.growth_factor, self.max_scale), 0
        else:
            self.skipped += 1
            self.in_a_row += 1
            self.scale, self.good = max(self.scale * self.backoff_factor, self.min_scale), 0


@few
@given(
    outcomes=st.lists(st.booleans(), max_size=30),
    exponents=st.lists(st.integers(-20, 24), min_size=3, max_size=3).map(sorted),
    growth_factor=st.sampled_from([1.5, 2.0, 4.0, 1000.0]),
    backoff_factor=st.sampled_from([0.5, 0.25, 0.1]),
    growth_interval=st.integers(1, 5),
)
def test_dynamic_follows_the_reference(outcomes, exponents, growth_factor, backoff_factor, growth_interval):
    min_scale, init_scale, max_scale = (2.0**exponent for exponent in exponents)
    rule = {
        "growth_factor": growth_factor,
        "backoff_factor": backoff_factor,
        "growth_interval": growth_interval,
        "min_scale": min_scale,
        "max_scale": max_scale,
    }
    loss_scale, reference = dynamic_loss_scale(init_scale=init_scale, **rule), Reference(scale=init_scale, **rule)
    update = jax.jit(scaling.update)
    for index, finite in enumerate(outcomes):
        loss_scale = update(loss_scale, np.asarray(finite), np.asarray(-1 if finite else index, np.int32))
        reference.step(finite)
        np.testing.assert_allclose(loss_scale.scale, reference.scale, rtol=1e-5)
        assert (int(loss_scale.good_steps), int(loss_scale.skipped)) == (reference.good, reference.skipped)
        assert int(loss_scale.skipped_in_a_row) == reference.in_a_row
    bad = [index for index, finite in enumerate(outcomes) if not finite]
    assert int(loss_scale.last_bad) == (bad[-1] if bad else -1)


@pytest.mark.parametrize("steps", [1, 2, 7, 2000])
def test_growth_after_exactly_so_many_good_steps(steps):
    start = dynamic_loss_scale(growth_interval=steps)

    def body(loss_scale, _):
        loss_scale = scaling.update(loss_scale, *GOOD)
        return loss_scale, loss_scale.scale

    _, scales = jax.jit(lambda start: jax.lax.scan(body, start, None, length=2 * steps))(start)
    grown = np.flatnonzero(np.diff(np.concatenate([[2.0**15], scales])))
    np.testing.assert_array_equal(grown + 1, [steps, 2 * steps])


def test_a_bad_step_starts_the_count_anew():
    loss_scale = dynamic_loss_scale(init_scale=8.0, growth_interval=3)
    for outcome in (GOOD, GOOD, BAD, GOOD, GOOD):
        loss_scale = scaling.update(loss_scale, *outcome)
    assert float(loss_scale.scale) == 4.0
    assert float(scaling.update(loss_scale, *GOOD).scale) == 8.0


@pytest.mark.parametrize("min_scale", [1.0, 2.0**-10, 2.0**-126])
def test_floor_holds_below_one_and_under_jit(min_scale):
    loss_scale = dynamic_loss_scale(init_scale=max(min_scale, 2.0**-5), min_scale=min_scale)
    update = jax.jit(scaling.update)
    for _ in range(130):
        loss_scale = update(loss_scale, *BAD)
    assert float(loss_scale.scale) == min_scale
    np.testing.assert_array_equal(scaling.unscale(loss_scale, jnp.float32(min_scale)), 1.0)


def test_ceiling_holds():
    loss_scale = dynamic_loss_scale(init_scale=2.0**23, growth_interval=1)
    for _ in range(3):
        loss_scale = scaling.update(loss_scale, *GOOD)
    assert float(loss_scale.scale) == 2.0**24


@few
@given(
    grads=st.lists(st.floats(-1e3, 1e3, width=16), min_size=1, max_size=8),
    exponent=st.integers(-8, 15),
    dtype=st.sampled_from(["float16", "bfloat16", "float32"]),
)
def test_a_power_of_two_comes_off_without_a_trace(grads, exponent, dtype):
    scale = 2.0**exponent
    half = jnp.asarray(grads, dtype)
    plain = np.asarray(half, np.float64)
    unscaled = scaling.unscale(static_loss_scale(scale), {"w": half})["w"]
    assert unscaled.dtype == jnp.float32
    np.testing.assert_array_equal(unscaled, (plain / scale).astype(np.float32))


@few
@given(loss=st.floats(2.0**-10, 2.0**10, width=32), scale=st.floats(2.0**-10, 2.0**20, width=32))
def test_any_scale_comes_off_but_for_rounding(loss, scale):
    loss_scale = static_loss_scale(scale)
    back = scaling.unscale(loss_scale, scaling.scale_loss(loss_scale, jnp.float32(loss)))
    np.testing.assert_allclose(np.float64(back), np.float64(loss), rtol=2.0**-23)


def test_a_half_precision_scalar_loss_is_scaled_in_float32():
    scaled = scaling.scale_loss(dynamic_loss_scale(), jnp.float16(2.5))
    assert scaled.dtype == jnp.float32
    assert float(scaled) == 2.5 * 2**15
    assert scaling.scale_loss(no_loss_scale(), jnp.float16(2.5)).dtype == jnp.float32


def test_unscale_leaves_what_is_no_floating_number():
    grads = {"w": jnp.ones(2, jnp.float16), "n": jnp.int32(64), "c": jnp.full(1, 64 + 64j, jnp.complex64), "none": None}
    unscaled = scaling.unscale(static_loss_scale(64.0), grads)
    assert (int(unscaled["n"]), unscaled["none"], complex(unscaled["c"][0])) == (64, None, 1 + 1j)


def test_a_growth_step_changes_no_gradient():
    """The classical bug: unscaling with the scale that has just grown halves the gradients of that step."""
    weights = jnp.asarray([0.5, -0.25, 3.0])

    @jax.jit
    def step(loss_scale):
        grads = jax.grad(lambda w: scaling.scale_loss(loss_scale, jnp.sum(w**3)))(weights)
        grads = scaling.unscale(loss_scale, grads)
        bad = trees.first_nonfinite(grads)
        return grads, scaling.update(loss_scale, bad < 0, bad)

    loss_scale = dynamic_loss_scale(growth_interval=1)
    for _ in range(4):
        grads, grown = step(loss_scale)
        assert float(grown.scale) == 2 * float(loss_scale.scale)
        np.testing.assert_array_equal(grads, 3 * weights**2)
        loss_scale = grown


def test_none_never_scales_nor_counts():
    loss_scale = scaling.update(no_loss_scale(), *BAD)
    assert values(loss_scale) == values(no_loss_scale())
    assert float(scaling.scale_loss(loss_scale, jnp.float32(3.0))) == 3.0


def test_static_keeps_its_scale_and_counts():
    loss_scale = static_loss_scale(128.0)
    for outcome in (BAD, BAD, GOOD, BAD):
        loss_scale = scaling.update(loss_scale, *outcome)
    assert values(loss_scale) | {"scale": 128.0, "skipped": 3, "skipped_in_a_row": 1, "last_bad": 3} == values(
        loss_scale
    )


def test_round_trip_with_no_default_left(tmp_path):
    original = changed()
    wanted = values(original)
    defaults = values(dynamic_loss_scale())
    assert all(wanted[name] != defaults[name] for name in wanted if name != "kind")
    assert values(jax.jit(lambda given: given)(original)) == wanted
    assert values(jax.tree.map(lambda leaf: leaf, original)) == wanted
    leaves, structure = jax.tree.flatten(original)
    assert len(leaves) == 10
    assert values(jax.tree.unflatten(structure, leaves)) == wanted
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.StandardSave({"loss_scale": original}))
        manager.wait_until_finished()
        template = {"loss_scale": jax.tree.map(jnp.zeros_like, dynamic_loss_scale())}
        restored = manager.restore(3, args=ocp.args.StandardRestore(template))
    assert values(restored["loss_scale"]) == wanted


def test_placeholders_and_stacks_fit_where_numbers_stand():
    shardings = jax.tree.map(lambda _: None, dynamic_loss_scale(), is_leaf=lambda leaf: isinstance(leaf, np.ndarray))
    assert shardings.scale is None
    stacked = jax.vmap(lambda _: scaling.update(dynamic_loss_scale(), *BAD))(jnp.arange(3))
    assert stacked.scale.shape == (3,)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_one_program_for_every_number(kind):
    """Another scale, growth_factor, min_scale or growth interval, and the second call, compile nothing."""
    update = jax.jit(scaling.update, donate_argnums=0)
    others = {
        "static": [static_loss_scale(scale) for scale in (64.0, 128.0, 256.0)],
        "dynamic": [
            dynamic_loss_scale(),
            dynamic_loss_scale(init_scale=4.0, growth_factor=3.0, min_scale=0.25),
            dynamic_loss_scale(growth_interval=7),
        ],
    }
    with counting_compiles() as compiles:
        for start in others[kind]:
            loss_scale = start
            for outcome in (GOOD, BAD, GOOD):
                loss_scale = update(loss_scale, *outcome)
    assert compiles.programs == 1


def test_a_donated_scale_can_be_used_again():
    start = dynamic_loss_scale()
    update = jax.jit(scaling.update, donate_argnums=0)
    update(start, *GOOD)
    assert float(update(start, *BAD).scale) == 2.0**14


def test_update_needs_no_host():
    with jax.transfer_guard("disallow"):
        arguments = jax.device_put((dynamic_loss_scale(), *GOOD))
        jax.jit(scaling.update).lower(*arguments)
    text = jax.jit(scaling.update).lower(dynamic_loss_scale(), *GOOD).as_text()
    assert "callback" not in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"init_scale": 0.0}, "init_scale"),
        ({"init_scale": float("inf")}, "init_scale"),
        ({"init_scale": float("nan")}, "init_scale"),
        ({"growth_factor": 1.0}, "growth_factor"),
        ({"growth_factor": float("inf")}, "growth_factor"),
        ({"backoff_factor": 1.0}, "backoff_factor"),
        ({"backoff_factor": 0.0}, "backoff_factor"),
        ({"growth_interval": 0}, "growth_interval"),
        ({"init_scale": 0.5}, "min_scale=1.0, init_scale=0.5"),
        ({"max_scale": 2.0**200}, "max_scale"),
        ({"min_scale": 2.0**-140}, "min_scale"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        dynamic_loss_scale(**arguments)


def test_all_offenders_are_named_at_once():
    with pytest.raises(ValueError, match=r"init_scale.*growth_factor.*backoff_factor.*growth_interval"):
        dynamic_loss_scale(init_scale=-1.0, growth_factor=0.5, backoff_factor=2.0, growth_interval=0)
    with pytest.raises(ValueError, match="scale=0"):
        static_loss_scale(0)


PATHS = ["gradients/Dense_0/bias", "gradients/Dense_0/kernel", "gradients/Dense_1/bias", "gradients/Dense_1/kernel"]


def test_diagnosis_names_the_layer_when_the_scale_is_at_its_floor():
    loss_scale = dynamic_loss_scale(init_scale=4.0, min_scale=2.0)
    assert scaling.diagnose(loss_scale, PATHS) is None
    once = scaling.update(loss_scale, *BAD)
    assert "Dense_1/kernel" in (scaling.diagnose(once, PATHS) or "")
    assert "min_scale" in (scaling.diagnose(once, PATHS) or "")
    assert scaling.diagnose(scaling.update(once, *GOOD), PATHS) is None


def test_diagnosis_after_many_skips_in_a_row():
    loss_scale = dynamic_loss_scale()
    for _ in range(5):
        loss_scale = scaling.update(loss_scale, *BAD)
    assert scaling.diagnose(loss_scale, PATHS) is None
    assert "5 training steps in a row" in (scaling.diagnose(loss_scale, PATHS, in_a_row=5) or "")


def test_diagnosis_of_a_static_scale_and_of_none():
    static = scaling.update(static_loss_scale(64.0), *BAD)
    assert "static scale cannot give way" in (scaling.diagnose(static, PATHS) or "")
    assert scaling.diagnose(scaling.update(no_loss_scale(), *BAD), PATHS) is None


@pytest.mark.parametrize("loss_scale", KINDS, ids=lambda given: given.kind)
def test_making_one_touches_no_device(loss_scale):
    assert all(isinstance(leaf, np.ndarray) and leaf.shape == () for leaf in jax.tree.leaves(loss_scale))
