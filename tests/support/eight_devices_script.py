"""Run in a process of its own, on JAX and eight virtual devices: each case trained on one device and on eight."""

import contextlib
import json
import re
import sys
from pathlib import Path

import jax
import keras
import numpy as np

from keras_normface import AgentContrastiveHead, AgentTripletHead, EmbeddingModel, LearnableScale, MarginSoftmaxHead
from keras_normface.heads import SoftmaxHead, class_sharding
from keras_normface.margins import AdditiveCosine, MultiplicativeAngular

CLASSES, DIM, BATCH, STEPS, DEVICES = 320, 24, 48, 10, 8
COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
MANY = 10_240  # more than "auto" leaves to plain ops, and than one block of streaming


class Streaming(MarginSoftmaxHead):
    """What the head refuses."""

    def mode_for(self, batch_size):
        return "stream"


CASES = {
    "auto": lambda: [MarginSoftmaxHead(MANY, AdditiveCosine(0.2))],
    "learnable v2, smoothed": lambda: [
        MarginSoftmaxHead(
            CLASSES, MultiplicativeAngular(1.4, variant="v2"), LearnableScale(20.0), label_smoothing=0.1, fused="buffer"
        )
    ],
    "plain, contrastive": lambda: [
        MarginSoftmaxHead(CLASSES, AdditiveCosine(0.2)),
        AgentContrastiveHead(CLASSES, fused="buffer"),
    ],
    "triplet, softmax": lambda: [
        AgentTripletHead(CLASSES, hardest_negative_only=True, positive_pull=True, fused="buffer"),
        SoftmaxHead(CLASSES, scale=16.0),
    ],
}


def data(classes):
    rng = np.random.default_rng(0)
    return rng.normal(size=(BATCH, 20)).astype("float32"), rng.integers(0, classes, BATCH).astype("int32")


def compiled_model(heads, x=None):
    """A model; built, with its optimizer, if `x` is given."""
    backbone = keras.Sequential([keras.Input((20,)), keras.layers.Dense(DIM)])
    model = EmbeddingModel(backbone, heads)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9))
    if x is not None:
        model.build(x.shape)
        model.optimizer.build(model.trainable_variables)
    return model


def seeded(make):
    """What `make` makes, the same each time: an initializer draws its seed when it is made."""
    keras.utils.set_random_seed(1)
    return make()


def trained(heads, steps=STEPS):
    """A model after some steps on one batch, and its logs."""
    model = compiled_model(heads)
    logs = model.fit(*data(heads[0].units), batch_size=BATCH, epochs=steps, shuffle=False, verbose=0).history
    return model, logs


def program(model):
    """Text of the compiled training step; its shapes are those on each device."""
    parts = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    state = tuple([v.value for v in part] for part in [*parts, model.metrics_variables])
    layout = keras.distribution.distribution().get_data_layout
    batch = tuple(jax.device_put(a, layout(a.shape).backend_layout) for a in data(model.heads[0].units))
    out = (None, jax.tree.map(lambda array: array.sharding, state))
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=out)
    return step.lower(state, (*batch, None)).compile().as_text()


def whole_arrays(text, classes, dim=DIM, batch=BATCH):
    """Shapes in a program that hold all classes, or as much as that."""
    shapes = set(re.findall(r"\b[a-z]+[0-9]*\[([0-9,]+)\]", text))
    sizes = {shape: [int(n) for n in shape.split(",")] for shape in shapes}
    return sorted(s for s, ns in sizes.items() if classes in ns or np.prod(ns) >= classes * min(dim, batch))


def collectives(text):
    """Shapes that devices exchange, by the operation."""
    found = re.findall(
        r" = (.*?) (all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)(?:-start)?\(", text
    )
    shapes = {kind: set() for _, kind in found}
    for text, kind in found:
        shapes[kind] |= set(re.findall(r"\[([0-9,]*)\]", text))
    return {kind: sorted(those) for kind, those in shapes.items()}


def held(model):
    """Shapes, on a device, of agents and of what has one row a class in the optimizer."""
    kernels = [head.kernel for head in model.heads]
    slots = [v for v in model.optimizer.variables if tuple(v.shape) in {tuple(kernel.shape) for kernel in kernels}]
    return [list(v.value.addressable_shards[0].data.shape) for v in [*kernels, *slots]]


def describe(model):
    """What a sharded model's arrays and its step look like on a device."""
    text = program(model)
    return {"held": held(model), "whole": whole_arrays(text, model.heads[0].units), "collectives": collectives(text)}


def compare(make, batch_groups=(1,)):
    """Train on one device and on eight."""
    one, logs = trained(seeded(make))
    for groups in batch_groups:
        heads = seeded(make)
        with class_sharding(heads, batch_groups=groups).scope():
            many, many_logs = trained(heads)
            shapes = describe(many)
        differences = [float(np.abs(a - b).max()) for a, b in zip(one.get_weights(), many.get_weights(), strict=True)]
        yield {"one": logs, "many": many_logs, "weights": max(differences), **shapes}


def step_of(head, split=True):
    """The step of a head that nobody compares; `split=False`: its agents are on every device."""
    with class_sharding(head if split else AgentContrastiveHead(CLASSES, name="other")).scope():
        return describe(trained([head], steps=1)[0])


def refused():
    """What is said to heads that are told to stream."""
    said = []
    for head in (MarginSoftmaxHead(CLASSES, fused="stream"), AgentContrastiveHead(CLASSES, fused="stream")):
        with class_sharding(head).scope():
            try:
                trained([head])
            except ValueError as error:
                said.append(str(error))
    return said


def modes():
    """How a batch is computed of which a device would hold, unsplit, more than "auto" keeps."""
    heads = [MarginSoftmaxHead(2 * MANY), AgentContrastiveHead(2 * MANY), MarginSoftmaxHead(CLASSES)]
    with class_sharding(heads).scope():
        for head in heads:
            head.build((None, 2))
        return [head.mode_for(2**20) for head in heads], heads[0].cost(256).kernel


def saved(directory):
    """Weights and a whole model, written and read under the distribution and without it."""

    def heads():
        return [MarginSoftmaxHead(CLASSES, AdditiveCosine(0.2), fused="buffer", name="agents")]

    x, y = data(CLASSES)
    files = f"{directory}/w.weights.h5", f"{directory}/m.keras"
    with class_sharding(heads()).scope():
        model, _ = trained(heads())
        model.save_weights(files[0])
        model.save(files[1])
        again = compiled_model(heads(), x)
        before = float(np.abs(again.get_weights()[-1] - model.get_weights()[-1]).max())
        again.load_weights(files[0])
        whole = keras.saving.load_model(files[1])
        next_losses = [m.fit(x, y, batch_size=BATCH, verbose=0).history["loss"][0] for m in (model, whole)]
        shapes = [held(m) for m in (again, whole)]
    single = compiled_model(heads(), x)
    single.load_weights(files[0])
    same = all(np.array_equal(a, b) for a, b in zip(single.get_weights(), again.get_weights(), strict=True))
    return {"before": before, "same": same, "next_losses": next_losses, "held": shapes}


def large_start():
    """Initial agents that Keras makes split, since they are large, and the same on one device."""
    shape, values = (16_384, 512), []
    for distribute in (False, True):
        head = seeded(lambda: MarginSoftmaxHead(shape[0]))
        with class_sharding(head).scope() if distribute else contextlib.nullcontext():
            head.build((None, shape[1]))
            values.append(np.asarray(head.kernel.value))
    return {
        "held": list(head.kernel.value.addressable_shards[0].data.shape),
        "difference": float(np.abs(values[0] - values[1]).max()),
    }


def page():
    """Run the code of docs/million.md, with fewer classes, and train a step."""
    text = (Path(__file__).parents[2] / "docs/million.md").read_text()
    (code,) = re.findall(r"```py\n(.*?)```", text, flags=re.DOTALL)
    names = {}
    exec(code.replace("1_000_000", "320").replace("512", "20"), names)
    names["model"].fit(*data(320), batch_size=BATCH, verbose=0)
    keras.distribution.set_distribution(None)
    return held(names["model"])


def main(directory):
    """Print all results as one line of JSON."""
    results = {name: next(compare(make)) for name, make in CASES.items() if name != "auto"}
    results["auto"], results["auto, batch in two"] = compare(CASES["auto"], batch_groups=(1, 2))
    results["stream"] = step_of(Streaming(MANY, AdditiveCosine(0.2)))
    results["replicated"] = step_of(MarginSoftmaxHead(CLASSES), split=False)
    results |= {
        "page": page(),
        "refused": refused(),
        "modes": modes(),
        "saved": saved(directory),
        "large": large_start(),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
