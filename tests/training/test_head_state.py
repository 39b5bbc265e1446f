"""What margins by the sample keep: resumed bit for bit, moved by sampled heads too, finite in every policy."""

import keras
import numpy as np
import pytest

from keras_normface import EmbeddingModel, MarginSoftmaxHead, SampledMarginSoftmaxHead, fit_resumable
from keras_normface.data import ArrayBatches
from keras_normface.margins import AdaFace, ElasticFace, MagFace
from tests.support import tiny

MARGINS = {
    "adaface": lambda: AdaFace(rate=0.1),
    "magface": lambda: MagFace(norms=(0.1, 4.0), norm_weight=0.1),
    "elastic": lambda: ElasticFace(by_rank=True),
}


def make(heads, **options):
    layers = [keras.Input((tiny.FEATURES,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dropout(0.2)]
    model = EmbeddingModel(keras.Sequential([*layers, keras.layers.Dense(4)]), heads)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), **{"jit_compile": False, **options})
    return model


def run(directory, head, cut_at=None, jit_compile=False):
    keras.utils.set_random_seed(0)
    model = make([head(tiny.CLASSES, new(), scale=8.0) for new in MARGINS.values()], jit_compile=jit_compile)
    cut = [tiny.CutAt(cut_at)] if cut_at else []
    data = ArrayBatches(*tiny.arrays(), tiny.BATCH, seed=3)
    return model, fit_resumable(model, data, 2, directory, save_every=4, callbacks=cut, verbose=0).history


def sampled(units, margin, **options):
    return SampledMarginSoftmaxHead(units, margin, momentum=0.5, **options)


@pytest.mark.parametrize(
    ("head", "jit_compile"),
    [
        (MarginSoftmaxHead, False),
        pytest.param(sampled, False, marks=pytest.mark.slow),
        pytest.param(MarginSoftmaxHead, True, marks=pytest.mark.slow),
    ],
)
def test_a_cut_training_ends_bit_for_bit_like_a_whole_one(tmp_path, head, jit_compile):
    whole, history = run(tmp_path / "whole", head, jit_compile=jit_compile)
    with pytest.raises(tiny.Cut):
        run(tmp_path / "cut", head, 6, jit_compile)
    resumed, resumed_history = run(tmp_path / "cut", head, jit_compile=jit_compile)
    assert resumed_history == history
    assert tiny.state(resumed) == tiny.state(whole)
    kept = {name: float(v) for name, v in resumed.heads[0].margin_state.items()}
    assert kept["norm_mean"] < 10
    assert float(resumed.heads[2].step) == 2 * tiny.STEPS


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["adaface", "magface", "elastic"])
def test_two_hundred_steps_at_the_defaults_stay_finite(name, policy):
    margin = {"adaface": AdaFace, "magface": MagFace, "elastic": ElasticFace}[name]()
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
