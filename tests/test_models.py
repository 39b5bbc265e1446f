"""Order of construction, saving, what Keras's own tools expect of a model, and flatness over many steps."""

import keras
import numpy as np
import pytest

from keras_normface import CosineDense, DistributedModel
from keras_normface.data import ArrayBatches
from keras_normface.heads import MarginSoftmaxHead
from keras_normface.models import EmbeddingModel
from keras_normface.training import NanGuard, PairEvaluation, fit_resumable
from tests.support.processes import run_script

TWO_CLASSES = """
import keras, numpy as np
from keras_normface import CosineDense, NormFaceLoss, DistributedModel
from keras_normface.distribute import ReplicaXLA

class Sibling(ReplicaXLA, keras.Model):
    def __init__(self, backbone, head, **kwargs):
        x = keras.Input((4,))
        super().__init__(x, head(backbone(x)), **kwargs)

def sphere():
    inputs = keras.Input((4,))
    return DistributedModel(inputs, CosineDense(3)(keras.layers.Dense(4)(inputs)))

def sibling():
    return Sibling(keras.layers.Dense(4), CosineDense(3))

x, y = np.eye(4, dtype="float32"), np.arange(4) % 3
for make in ({order}):
    make()
    model = make()
    model.compile("adam", NormFaceLoss(scale=20.0), jit_compile=True)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    if make is sphere:
        model.save("{path}")
        loaded = keras.models.load_model("{path}")
        assert type(loaded) is DistributedModel and loaded.jit_compile is True
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
        assert np.isfinite(loaded.fit(x, y, verbose=0).history["loss"]).all()
"""

MANY_STEPS = """
import resource, threading
from tests.support.scenario import DEFAULTS, compiled_model, start
from tests.support.scenario_parts import make_data

options = {**DEFAULTS, "rows": 37, "xla": True}
model = compiled_model(options, start(options))
traces, compute_loss = [], type(model).compute_loss

def counted(self, *args, **kwargs):
    traces.append(1)
    return compute_loss(self, *args, **kwargs)

type(model).compute_loss = counted
x, y, _ = make_data(options)

def measure(epochs):
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0)
    return len(traces), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, threading.active_count()

first, last = measure(80), measure(320)
assert first[0] == last[0] <= 6, (first, last)
assert last[1] - first[1] < 60, (first, last)
assert last[2] <= first[2] + 2, (first, last)
print("FLAT", first, last)
"""


@pytest.mark.parametrize("order", ["sphere, sibling", "sibling, sphere"])
def test_both_orders_of_construction(tmp_path, order):
    run_script(tmp_path, TWO_CLASSES.format(order=order, path=tmp_path / "model.keras"))


@pytest.mark.slow
def test_two_thousand_steps_compile_and_leak_nothing(tmp_path):
    output = run_script(tmp_path, MANY_STEPS)
    print(output)
    assert "FLAT" in output


class Subclassed(keras.Model):
    """A backbone that does not say its shapes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(5)

    def call(self, x):
        return self.dense(x)


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(5)(inputs))


def called():
    backbone = Subclassed()
    backbone(np.ones((2, 4)))
    return backbone


BUILT = {
    "functional": functional,
    "sequential": lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]),
    "subclassed": called,
}
X, Y = np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.arange(6) % 3


def compiled(make=functional, rate=0.1):
    keras.utils.set_random_seed(0)
    model = EmbeddingModel(make(), MarginSoftmaxHead(3))
    model.compile(keras.optimizers.SGD(rate))
    return model


@pytest.mark.parametrize("kind", BUILT)
def test_a_model_over_a_built_backbone_is_built(tmp_path, kind):
    first, second = compiled(BUILT[kind]), compiled(BUILT[kind])
    assert first.built
    assert first.heads[0].kernel.shape == (3, 5)
    first.fit(X, Y, verbose=0)
    first.save_weights(tmp_path / "a.weights.h5")
    second.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(second.predict(X, verbose=0), first.predict(X, verbose=0))
    np.testing.assert_array_equal(second.heads[0].kernel, first.heads[0].kernel)
    lines = []
    compiled(BUILT[kind]).summary(print_fn=lines.append)
    assert "Trainable params: 40 " in "".join(lines)


@pytest.mark.parametrize("kind", BUILT)
def test_backup_and_restore_resumes(tmp_path, kind):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)

    whole, parts = compiled(BUILT[kind]), compiled(BUILT[kind])
    whole.fit(X, Y, epochs=3, shuffle=False, verbose=0)
    parts.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=[backup()])
    resumed = compiled(BUILT[kind])
    history = resumed.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[backup()])
    assert history.epoch == [2]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("make", [Subclassed, lambda: keras.Sequential([keras.layers.Dense(5)])])
def test_a_backbone_that_is_not_built_is_built_on_first_use(make):
    model = compiled(make)
    assert not model.built
    assert model.compute_output_shape((None, 4)) == (None, 5)
    assert np.isfinite(model.fit(X, Y, verbose=0).history["loss"]).all()


def test_a_backbone_whose_embeddings_have_no_known_length_is_left_open():
    inputs = keras.Input((None, None, 3))
    assert not EmbeddingModel(keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)), MarginSoftmaxHead(3)).built


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("accuracy", "max"), ("target_angle_degrees", "min"), ("pairs_accuracy", "max"), ("loss", "min")],
)
def test_keras_callbacks_know_the_direction(tmp_path, monitor, best):
    stop = keras.callbacks.EarlyStopping(f"val_{monitor}", patience=9, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau(f"val_{monitor}", patience=9)
    kept = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor=f"val_{monitor}", save_best_only=True)
    pairs = PairEvaluation(np.repeat(X, 2, axis=0), [True, False] * 3, folds=2, flip="none")
    own = keras.callbacks.EarlyStopping("val_loss", mode="max", patience=9)
    model = compiled(rate=0.5)
    callbacks = [pairs, stop, plateau, kept, own]
    logs = model.fit(X, Y, epochs=3, validation_data=(X[::-1], Y), verbose=0, callbacks=callbacks).history
    wanted = (max if best == "max" else min)(logs[f"val_{monitor}"])
    assert stop.best == kept.best == plateau.best == pytest.approx(wanted)
    assert own.best == pytest.approx(max(logs["val_loss"])), "a mode that was given stays"
    assert keras.models.load_model(tmp_path / "best.keras").built


def test_fit_resumable_hands_the_direction_on(tmp_path):
    stop = keras.callbacks.EarlyStopping("target_angle_degrees", patience=9)
    data = ArrayBatches(X, Y, 3, seed=0)
    logs = fit_resumable(compiled(), data, 2, tmp_path, callbacks=[stop], verbose=0).history
    assert stop.best == pytest.approx(min(logs["target_angle_degrees"]))


@pytest.mark.parametrize("ending", [".h5", ".hdf5"])
def test_a_format_that_keras_would_not_load_again_is_refused(tmp_path, ending):
    inputs = keras.Input((4,))
    for model in (compiled(), DistributedModel(inputs, CosineDense(3)(inputs))):
        with pytest.raises(ValueError, match=r"`filepath` must end in \.keras"):
            model.save(tmp_path / f"model{ending}")
        assert not list(tmp_path.iterdir())


def test_labels_that_begin_at_one_are_named():
    with pytest.raises(FloatingPointError, match=r"loss.*labels: one outside \[0, 3\)"):
        compiled().fit(X, Y + 1, verbose=0, callbacks=[NanGuard()])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(FloatingPointError) as caught:
        model.fit(np.full((4, 4), np.nan), np.ones(4), verbose=0, callbacks=[NanGuard()])
    assert "label" not in str(caught.value)
