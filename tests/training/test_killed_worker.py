"""A worker is killed; the other stops; started again, the job ends as if nothing had been."""

import time

import pytest

from tests.support.workers import results_of, run_workers, start_workers

SCRIPT = """
import time, keras, numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from keras_normface import CosineDense, NormFaceLoss, DistributedModel, fit_resumable
from keras_normface.data import ArrayBatches

x = np.random.default_rng(0).normal(size=(240, 6)).astype("float32")
data = ArrayBatches(x, np.arange(240) % 5, batch_size=8, seed=0)
keras.utils.set_random_seed(0)
with strategy.scope():
    image = keras.Input((6,))
    model = DistributedModel(image, CosineDense(5)(keras.layers.Dense(4)(image)))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), NormFaceLoss(scale=10.0), metrics=["accuracy"])
steps = []
slow = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: (steps.append(batch), time.sleep(PAUSE)))
history = fit_resumable(model, data, 3, "run", save_every=4, callbacks=[slow], verbose=0)
weights = [weight.tolist() for weight in model.get_weights()]
print(len(steps))
print(history.history, weights)
"""


@pytest.mark.long
def test_a_killed_worker_stops_the_other_and_the_job_goes_on_from_the_checkpoint(tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = [output.splitlines() for output in run_workers(SCRIPT.replace("PAUSE", "0"), tmp_path / "whole")]
    assert [lines[-2] for lines in whole] == ["90", "90"]
    first, second = start_workers(SCRIPT.replace("PAUSE", "0.3"), [tmp_path / "cut"] * 2)
    try:
        wait_for(lambda: list((tmp_path / "cut").glob("run/*-step-000000008.ckpt")), first)
        second.kill()
        (_, (_, error)), _ = results_of([first, second])
        assert first.returncode != 0
        assert "Error" in error
    finally:
        first.kill()
        second.kill()
    resumed = [output.splitlines() for output in run_workers(SCRIPT.replace("PAUSE", "0"), tmp_path / "cut")]
    assert [lines[-1] for lines in resumed] == [lines[-1] for lines in whole]
    assert 0 < int(resumed[0][-2]) <= 90 - 8


def wait_for(condition, process):
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)
