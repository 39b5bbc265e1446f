"""Order of construction, saving, and flatness over many steps."""

import pytest

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
