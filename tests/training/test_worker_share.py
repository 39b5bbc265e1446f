"""Workers that read only their own images train as one process does."""

import ast

import numpy as np
import pytest

from tests.support import faces
from tests.support.processes import run_script
from tests.support.workers import run_workers

SCRIPT = """
import os, keras, numpy as np, tensorflow as tf
workers = "TF_CONFIG" in os.environ
strategy = tf.distribute.MultiWorkerMirroredStrategy() if workers else tf.distribute.get_strategy()
from keras_normface import CosineDense, NormFaceLoss, Preprocessing, DistributedModel, fit_resumable
from keras_normface.data import IdentityFolder, ImageBatches

class Counted(IdentityFolder):
    read = 0

    def encoded(self, indices):
        type(self).read += len(indices)
        return super().encoded(indices)

reader = Counted(FOLDER)
data = ImageBatches(reader, 8, Preprocessing(size=(112, 92)), seed=3)
keras.utils.set_random_seed(0)
with strategy.scope():
    image = keras.Input((112, 92, 3))
    features = keras.layers.Dense(8)(keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(image)))
    model = DistributedModel(image, CosineDense(5)(features))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), NormFaceLoss(scale=10.0), jit_compile=False)
history = fit_resumable(model, data, 2, RUNS, save_every=2, verbose=0)
print({"loss": history.history["loss"], "weights": float(abs(model.get_weights()[0]).sum()), "read": reader.read})
"""


@pytest.mark.slow
def test_workers_read_their_share_and_train_as_one_process(tmp_path):
    root = faces.write_folder(tmp_path / "faces", 5, 8)
    script = SCRIPT.replace("FOLDER", repr(str(root)))
    together, one = (script.replace("RUNS", repr(str(tmp_path / name))) for name in ("together", "one"))
    workers = [ast.literal_eval(output.splitlines()[-1]) for output in run_workers(together, tmp_path)]
    alone = ast.literal_eval(run_script(tmp_path, one).splitlines()[-1])
    for worker in workers:
        np.testing.assert_allclose(worker["loss"], alone["loss"], rtol=1e-5)
        np.testing.assert_allclose(worker["weights"], alone["weights"], rtol=1e-5)
        assert worker["read"] <= 0.75 * alone["read"]
