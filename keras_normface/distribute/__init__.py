"""Keras's trainer under `tf.distribute`, with XLA inside each replica.

Keras compiles a whole distributed step with XLA, which TensorFlow's strategies do not support. Here only the replica's
part of a step is compiled: forward pass, loss and gradients. Reducing the gradients and updating the weights
stay outside. The loss of a batch is the same for any number of replicas, also where their shares differ.

The names that matter:

- `ReplicaXLA`: the mixin over `keras.Model`; `EmbeddingModel` and `DistributedModel` are built on it.
- `is_chief`: whether this process prints and writes files.
- `is_multi_worker`: whether a strategy spans several processes.
- `same_everywhere`: whether all workers hold the same numbers.

Read `_mixin.py` first, which says what differs from Keras; then `_step.py` (the step of a replica), `_functions.py`
(the functions over all replicas) and `_fit.py` (the loops over epochs). `_data.py` makes global batches; `_sampled.py`
trains class centres of which a step takes a sample. Without a strategy and without sampled class centres, Keras's own
trainer runs, on any backend.
"""

from keras_normface.distribute._functions import is_chief, is_multi_worker, same_everywhere
from keras_normface.distribute._mixin import ReplicaXLA

__all__ = [
    "ReplicaXLA",
    "is_chief",
    "is_multi_worker",
    "same_everywhere",
]
