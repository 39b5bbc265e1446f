"""Single batches on two replicas: each replica gets its own rows, so results and sums are the batch's."""

from tests.support.processes import run_script

SCRIPT = """
import keras, numpy as np, tensorflow as tf
from keras_normface import DistributedModel, EmbeddingModel
from keras_normface.heads import MarginSoftmaxHead

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, y = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 3

def embedding():
    return EmbeddingModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), MarginSoftmaxHead(3)), None

def summed():
    inputs = keras.Input((4,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    return DistributedModel(inputs, keras.layers.Dense(3)(inputs)), loss

def unbuilt():
    model = EmbeddingModel(keras.Sequential([keras.layers.Dense(3)]), MarginSoftmaxHead(3))
    return model, None

def steps(make):
    keras.utils.set_random_seed(0)
    model, loss = make()
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    results = [model.predict_on_batch(x[:rows]) for rows in (9, 8, 1)]
    results.append(model.train_on_batch(x, y, return_dict=True)["loss"])
    results.append(model.test_on_batch(x[:1], y[:1], return_dict=True)["loss"])
    model.train_on_batch(x, y, sample_weight=np.arange(9) / 4)
    return results + model.get_weights()

for make in (embedding, summed, unbuilt):
    one = steps(make)
    with strategy.scope():
        inside = steps(make)
        assert [np.shape(part) for part in inside] == [np.shape(part) for part in one], make
        for ours, plain in zip(inside, one):
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6, err_msg=make.__name__)
print("SAME")
"""


def test_a_batch_on_two_replicas_is_as_on_one(tmp_path):
    assert "SAME" in run_script(tmp_path, SCRIPT)
