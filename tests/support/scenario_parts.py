"""What the scenarios are made of: models, optimizers, data."""

import keras
import numpy as np

import keras_normface as nf
from keras_normface import backbones, heads
from keras_normface import margins as margins

DIM, CLASSES = 6, 5


class Texts(keras.layers.Layer):
    """A string op, which XLA cannot compile."""

    def call(self, inputs):
        import tensorflow as tf

        texts = tf.strings.as_string(inputs)
        return inputs + 0.0 * tf.cast(tf.strings.to_number(texts), inputs.dtype)


EXTRA_LAYERS = {
    "strings": lambda: Texts(),
    "norm": lambda: keras.layers.BatchNormalization(),
    "synchronized": lambda: keras.layers.BatchNormalization(synchronized=True),
    "dropout": lambda: keras.layers.Dropout(0.5, seed=3),
}
# Small networks without batch norm and with it, on images that just get through.
BACKBONES = {
    "spherefacenet": ((16, 12, 3), lambda shape: backbones.SphereFaceNet(4, False, shape, 4)),
    "spherefacenet_norm": ((16, 12, 3), lambda shape: backbones.SphereFaceNet(4, True, shape, 4)),
    "lightcnn": ((12, 16, 1), lambda shape: backbones.LightCNN(9, shape, 4)),
}


def make_model(options):
    """Return the model, its loss and the weights of its losses."""
    kind = options["model"]
    if kind in BACKBONES:
        shape, make = BACKBONES[kind]
        return make_classifier(make(shape), options), nf.NormFaceLoss(), None
    inputs = keras.Input((DIM,))
    features = keras.layers.Dense(8, activation="tanh", kernel_regularizer=options["regularizer"])(inputs)
    if kind in EXTRA_LAYERS:
        features = EXTRA_LAYERS[kind]()(features)
    features = keras.layers.Dense(4, dtype="float32")(features)
    base = keras.Model if options["plain"] else nf.DistributedModel
    if kind == "distilled":
        pair = [heads.MarginSoftmaxHead(CLASSES, fused=False), heads.DistillationHead(relation_weight=0.0)]
        return nf.EmbeddingModel(keras.Model(inputs, features), pair), None, None
    if kind == "by sample":
        return nf.EmbeddingModel(keras.Model(inputs, features), heads_by_sample(options)), None, None
    if kind == "embedding":
        return make_embedding_model(keras.Model(inputs, features), options), None, None
    if kind == "joint":
        outputs = [nf.CosineDense(CLASSES, name=name)(features) for name in ("soft", "pull")]
        return base(inputs, outputs), [nf.NormFaceLoss(scale=20.0), nf.AgentContrastiveLoss()], [1.0, 0.01]
    return make_classifier(keras.Model(inputs, features), options), nf.NormFaceLoss(), None


def make_classifier(backbone, options):
    """Cosines and a learnable scale on the embeddings."""
    outputs = nf.LearnableScale(3.0)(nf.CosineDense(CLASSES, name="soft")(backbone.output))
    return (keras.Model if options["plain"] else nf.DistributedModel)(backbone.input, outputs)


def make_embedding_model(backbone, options):
    """Two heads with agents of their own; one has a learnable scale, and a margin that grows."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 10, 0.2)
    soft = heads.MarginSoftmaxHead(
        CLASSES,
        margins.AdditiveCosine(0.1),
        scale=nf.LearnableScale(3.0),
        margin_schedule=schedule,
        fused=False if options["plain"] else options["fused"],
    )
    return nf.EmbeddingModel(backbone, [soft, heads.AgentContrastiveHead(CLASSES)], head_weights=[1.0, 0.01])


def heads_by_sample(options):
    """Heads that need places, sums and cosines of the whole batch."""
    options = {"scale": 8.0, "fused": False if options["plain"] else options["fused"]}
    return [
        heads.MarginSoftmaxHead(CLASSES, margin, **options)
        for margin in (
            margins.AdaFace(rate=0.3),
            margins.MagFace(norms=(0.2, 2.0), norm_weight=0.1),
            margins.MVSoftmax(margins.ElasticFace(deviation=0.1)),
            margins.CurricularFace(rate=0.3),
            margins.ElasticFace(deviation=0.1, by_rank=True, seed=1),
        )
    ]


def make_optimizer(name, rate):
    """Return one of the optimizers whose state is updated in an order of its own."""
    sgd, scaled = keras.optimizers.SGD, keras.optimizers.LossScaleOptimizer
    return {
        "sgd": lambda: sgd(rate, momentum=0.9),
        "accumulate": lambda: sgd(0.1, gradient_accumulation_steps=2),
        "scaled": lambda: scaled(sgd(0.05), initial_scale=2.0**8),
        "growing": lambda: scaled(sgd(0.05), dynamic_growth_steps=3),
        "scaled_accumulate": lambda: scaled(sgd(0.1, gradient_accumulation_steps=2)),
        "clipped": lambda: sgd(0.1, global_clipnorm=0.1, weight_decay=0.01),
        "averaged": lambda: sgd(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
        "factor": lambda: sgd(0.05, loss_scale_factor=64.0),
    }[name]()


def make_metrics(options):
    """Return the arguments of `compile` that name metrics."""
    if not options["metrics"]:
        return {}
    if options["model"] == "joint":
        return {"metrics": {"soft": "sparse_categorical_accuracy"}}
    weighted = [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")]
    return {"metrics": ["sparse_categorical_accuracy"], "weighted_metrics": weighted}


def make_data(options):
    """Return inputs, labels, and the arguments of `fit` that weigh them."""
    rng = np.random.default_rng(0)
    shape, _ = BACKBONES.get(options["model"], ((DIM,), None))
    x = rng.normal(size=(options["rows"], *shape)).astype("float32")
    labels = rng.integers(0, CLASSES, options["rows"])
    y = [labels, labels] if options["model"] == "joint" else labels
    if options["model"] == "distilled":
        y = {"labels": labels, "teacher": rng.normal(size=(options["rows"], 4)).astype("float32")}
    weights = {
        None: {},
        "sample": {"sample_weight": rng.uniform(size=options["rows"]).astype("float32")},
        "class": {"class_weight": {0: 2.0, 3: 0.5}},
    }
    return x, y, weights[options["weights"]]


def as_source(options, x, y):
    """Return the arguments of `fit` that hold the data: arrays, a dataset, a PyDataset or a generator."""
    import tensorflow as tf

    batch, kind = options["batch"], options["data"]
    if kind == "arrays":
        return {"x": x, "y": y, "batch_size": batch, "shuffle": False}
    if kind in ("dataset", "static"):
        rows = tf.data.Dataset.from_tensor_slices((x, y))
        return {"x": rows.batch(batch, drop_remainder=kind == "static")}
    parts = [(x[i : i + batch], y[i : i + batch]) for i in range(0, len(x), batch)]
    if kind == "generator":
        return {"x": (part for part in parts)}
    return {"x": Parts(parts), "shuffle": False}


class Parts(keras.utils.PyDataset):
    """Ready-made batches."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]
