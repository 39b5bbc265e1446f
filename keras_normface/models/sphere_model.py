"""A functional model that trains under XLA on every replica."""

import keras

from keras_normface.models.replica_xla import ReplicaXLA


@keras.saving.register_keras_serializable(package="keras_normface")
class SphereModel(ReplicaXLA, keras.Model):
    """`keras.Model` whose `compile` checks the losses, and whose XLA and `fit` work under `tf.distribute`.

    Args:
        *args: Inputs and outputs, as `keras.Model(inputs, outputs)`.
        **kwargs: Other arguments of `keras.Model`.

    Raises:
        ValueError: In `compile`; see `ReplicaXLA.compile`.

    Example:
    >>> import keras, numpy as np
    >>> from keras_normface import CosineDense, NormFaceLoss
    >>> inputs = keras.Input((4,))
    >>> model = SphereModel(inputs, CosineDense(3)(inputs))
    >>> model.compile("sgd", NormFaceLoss(scale=20.0), jit_compile=True)
    >>> history = model.fit(np.eye(4)[:3], np.arange(3), verbose=0)
    >>> sorted(history.history)
    ['loss']
    """
