"""What margins by the sample keep: resumed bit for bit, moved by sampled heads too, finite in every policy."""

import keras
import numpy as np
import pytest

from keras_normface import EmbeddingModel, MarginSoftmaxHead, SampledMarginSoftmaxHead, fit_resumable
from keras_normface.data import ArrayBatches
from keras_normface.margins import AdaFace, CurricularFace, ElasticFace, MagFace, MVSoftmax
from tests.support import tiny

MARGINS = {
    "adaface": lambda: AdaFace(rate=0.1),
    "magface": lambda: MagFace(norms=(0.1, 4.0), norm_weight=0.1),
    "elastic": lambda: ElasticFace(by_rank=True),
    "curricular": lambda: CurricularFace(rate=0.1),
}


def make(heads, **options):
    layers = [keras.Input((tiny.FEATURES,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dropout(0.2)]
    model = EmbeddingModel(keras.Sequential([*layers, keras.layers.Dense(4)]), heads)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), **{"jit_compile": False, **options})
    return model


def run(directory, name, head, cut_at=None, jit_compile=False):
    keras.utils.set_random_seed(0)
    model = make(head(tiny.CLASSES, MARGINS[name](), scale=8.0), jit_compile=jit_compile)
    cut = [tiny.CutAt(cut_at)] if cut_at else []
    data = ArrayBatches(*tiny.arrays(), tiny.BATCH, seed=3)
    return model, fit_resumable(model, data, 2, directory, save_every=4, callbacks=cut, verbose=0).history


def sampled(units, margin, **options):
    return SampledMarginSoftmaxHead(units, margin, momentum=0.5, **options)


@pytest.mark.parametrize(
    ("name", "head", "jit_compile"),
    [
        ("adaface", MarginSoftmaxHead, False),
        *(pytest.param(name, MarginSoftmaxHead, True, marks=pytest.mark.long) for name in MARGINS),
        *(pytest.param(name, sampled, False, marks=pytest.mark.long) for name in MARGINS),
    ],
)
def test_a_cut_training_ends_bit_for_bit_like_a_whole_one(tmp_path, name, head, jit_compile):
    # One head: the sum of several heads' gradients is not the same to the last bit in each run without XLA.
    whole, history = run(tmp_path / "whole", name, head, jit_compile=jit_compile)
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", name, head, 6, jit_compile)
    resumed, resumed_history = run(tmp_path / "cut", name, head, jit_compile=jit_compile)
    assert resumed_history == history
    assert tiny.state(resumed) == tiny.state(whole)
    (trained,) = resumed.heads
    for kept, value in trained.margin_state.items():
        assert float(value) != trained.margin.state[kept]
    if trained.counts_steps:
        assert float(trained.step) == 2 * tiny.STEPS


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["adaface", "magface", "elastic", "curricular", "mv"])
def test_two_hundred_steps_at_the_defaults_stay_finite(name, policy):
    margins = {"adaface": AdaFace, "magface": MagFace, "elastic": ElasticFace, "curricular": CurricularFace}
    margin = {**margins, "mv": MVSoftmax}[name]()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = make([MarginSoftmaxHead(tiny.CLASSES, margin, scale=64.0)], jit_compile=policy != "mixed_float16")
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = tiny.arrays(samples=800)
    history = model.fit(x * 30.0, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
