"""Training scripts in the styles in which people write them, to be watched; all train a small classifier."""

DATA = """
import jax, jax.numpy as jnp, numpy as np, optax
rng = np.random.default_rng(0)
x = rng.normal(size=(96, 6)).astype(np.float32)
y = (x @ rng.normal(size=(6, 3))).argmax(1).astype(np.int32)
tx = optax.sgd(0.1, momentum=0.9)
params = {"w": 0.1 * rng.normal(size=(6, 3)).astype(np.float32), "b": np.zeros(3, np.float32)}
params = jax.tree.map(jnp.asarray, params)
def cross_entropy(params, x, y):
    logits = x @ params["w"] + params["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
def updated(params, opt_state, x, y):
    loss, grads = jax.value_and_grad(cross_entropy)(params, x, y)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss
def batches(epochs=2, size=16):
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), size):
            yield x[order[start : start + size]], y[order[start : start + size]]
"""

PIECES = (
    DATA
    + """
from functools import partial
@partial(jax.jit, donate_argnums=(0, 1), static_argnames="smooth")
def train_step(params, opt_state, batch, *, smooth):
    return updated(params, opt_state, *batch)
@jax.jit
def evaluate(params, x, y):
    return cross_entropy(params, x, y)
opt_state = tx.init(params)
for bx, by in batches():
    params, opt_state, loss = train_step(params, opt_state, (bx, by), smooth=True)
    evaluate(params, x, y)
print("done", float(loss))
"""
)

TRAIN_STATE = (
    DATA
    + """
import argparse
import flax.linen as nn
from flax.training.train_state import TrainState
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
options = parser.parse_args()
model = nn.Dense(3)
state = TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(0), x)["params"], tx=tx)
@jax.jit
def train_step(state, batch):
    def loss_fn(params):
        logits = state.apply_fn({"params": params}, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), {"loss": loss}
@jax.jit
def compute_metrics(state, batch):
    return state.replace(step=state.step)
for bx, by in batches(options.epochs):
    state, metrics = train_step(state, {"image": bx, "label": by})
    state = compute_metrics(state, {"image": bx, "label": by})
print("epochs", options.epochs)
"""
)

NNX = (
    DATA
    + """
from flax import nnx
model = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))
def loss_fn(model, batch):
    return optax.softmax_cross_entropy_with_integer_labels(model(batch["image"]), batch["label"]).mean()
@nnx.jit
def train_step(model, optimizer, metrics, batch):
    loss, grads = nnx.value_and_grad(loss_fn)(model, batch)
    metrics.update(loss=loss)
    optimizer.update(model, grads)
@nnx.jit
def eval_step(model, metrics, batch):
    metrics.update(loss=loss_fn(model, batch))
for _ in range(2):
    for bx, by in batches(1):
        eval_step(model, metrics, {"image": bx, "label": by})
    for bx, by in batches(1):
        train_step(model, optimizer, metrics, {"image": bx, "label": by})
"""
)

EQUINOX = (
    DATA
    + """
import equinox as eqx
model = eqx.nn.Linear(6, 3, key=jax.random.key(0))
def loss_fn(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()
def main():
    @eqx.filter_jit
    def make_step(model, opt_state, x, y, key):
        loss, grads = eqx.filter_value_and_grad(loss_fn)(model, x, y)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return loss, eqx.apply_updates(model, updates), opt_state
    trained, opt_state, key = model, tx.init(eqx.filter(model, eqx.is_array)), jax.random.key(1)
    for bx, by in batches():
        key, sub = jax.random.split(key)
        loss, trained, opt_state = make_step(trained, opt_state, bx, by, sub)
main()
"""
)

PMAP = (
    DATA
    + """
from functools import partial
@partial(jax.pmap, axis_name="devices")
def train_step(state, batch):
    loss, grads = jax.value_and_grad(cross_entropy)(state[0], *batch)
    updates, opt = tx.update(jax.lax.pmean(grads, "devices"), state[1])
    return (optax.apply_updates(state[0], updates), opt), {"loss": loss}
n = jax.local_device_count()
state = jax.tree.map(lambda leaf: jnp.stack([leaf] * n), (params, tx.init(params)))
for batch in batches():
    state, metrics = train_step(state, jax.tree.map(lambda leaf: leaf.reshape(n, -1, *leaf.shape[1:]), batch))
"""
)

SHARD_MAP = (
    DATA
    + """
from jax.sharding import PartitionSpec as P
mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
def step(params, opt_state, x, y):
    loss, grads = jax.value_and_grad(cross_entropy)(params, x, y)
    updates, opt_state = tx.update(jax.lax.pmean(grads, "data"), opt_state)
    return optax.apply_updates(params, updates), opt_state, jax.lax.pmean(loss, "data")
specs = P(), P(), P("data"), P("data")
spread = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False))
opt_state = tx.init(params)
for bx, by in batches():
    params, opt_state, loss = spread(params, opt_state, bx, by)
"""
)

SCAN = (
    DATA
    + """
@jax.jit
def train_epoch(params, opt_state, images, labels, perms):
    def one(carry, perm):
        params, opt_state, loss = updated(*carry, images[perm], labels[perm])
        return (params, opt_state), loss
    (params, opt_state), losses = jax.lax.scan(one, (params, opt_state), perms)
    return params, opt_state, losses.mean()
opt_state, key = tx.init(params), jax.random.PRNGKey(0)
for epoch in range(4):
    key, sub = jax.random.split(key)
    perms = jax.random.permutation(sub, len(x)).reshape(6, 16)
    params, opt_state, loss = train_epoch(params, opt_state, x, y, perms)
"""
)

METHOD = (
    DATA
    + """
from functools import partial
class Trainer:
    def __init__(self):
        self.params, self.opt_state = params, tx.init(params)
    @partial(jax.jit, static_argnums=0)
    def train_step(self, params, opt_state, x, y):
        return updated(params, opt_state, x, y)
    def fit(self):
        for bx, by in batches():
            self.params, self.opt_state, self.loss = self.train_step(self.params, self.opt_state, x=bx, y=by)
if __name__ == "__main__":
    Trainer().fit()
"""
)

IMPORTED = """
import sys
from steps import batches, params, train_step, tx
assert sys.argv[1:] == [], sys.argv
opt_state = tx.init(params)
for bx, by in batches():
    params, opt_state, loss = train_step(params, opt_state, bx, by)
"""
STEPS = (
    DATA
    + """
@jax.jit
def train_step(params, opt_state, x, y):
    return updated(params, opt_state, x, y)
"""
)

COMPILED_AHEAD = (
    DATA
    + """
opt_state, first = tx.init(params), next(batches())
step = jax.jit(updated).lower(params, opt_state, *first).compile()
for bx, by in batches():
    params, opt_state, loss = step(params, opt_state, bx, by)
"""
)

LOADER = (
    DATA
    + """
class Tensor:
    def __init__(self, values):
        self.values = values
    def __array__(self, dtype=None, copy=None):
        return self.values
class Loader:
    def __len__(self):
        return 6
    def __iter__(self):
        return ([Tensor(bx), Tensor(by)] for bx, by in batches(1))
@jax.jit
def train_step(state, batch, rate):
    params, opt_state, loss = updated(*state, *batch)
    return (params, opt_state), loss
state = params, tx.init(params)
try:
    for epoch in range(2):
        for step, (bx, by) in enumerate(Loader()):
            try:
                state, loss = train_step(state, (np.asarray(bx), np.asarray(by)), 0.1 * step)
            except Exception:
                print("swallowed")
finally:
    print("cleaned up")
"""
)

PLAIN = (
    DATA
    + """
grad_fn = jax.jit(jax.value_and_grad(cross_entropy))
def update(params, opt_state, batch):
    loss, grads = grad_fn(params, *batch)
    updates, opt_state = tx.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss
opt_state = tx.init(params)
for batch in batches():
    params, opt_state, loss = update(params, opt_state, batch)
"""
)

STYLES = {
    "pieces": PIECES,
    "train_state": TRAIN_STATE,
    "nnx": NNX,
    "equinox": EQUINOX,
    "pmap": PMAP,
    "shard_map": SHARD_MAP,
    "scan": SCAN,
    "method": METHOD,
    "imported": IMPORTED,
    "compiled_ahead": COMPILED_AHEAD,
    "loader": LOADER,
}
STEP_OF = {
    "pieces": "train_step",
    "train_state": "train_step",
    "nnx": "train_step",
    "equinox": "make_step",
    "pmap": "train_step",
    "shard_map": "step",
    "scan": "train_epoch",
    "method": "Trainer.train_step",
    "imported": "train_step",
    "compiled_ahead": "updated",
    "loader": "train_step",
}
