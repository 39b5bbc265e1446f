"""XLA inside each replica: the mixin over the models of this package."""

import keras

from keras_normface.checks import check_model
from keras_normface.distribute import _fit, _functions
from keras_normface.distribute._sampled import check_trainable
from keras_normface.distribute._step import refuse_synchronized_batch_norm


class ReplicaXLA:
    """Mixin that lets `compile(jit_compile=True)` work under `tf.distribute`, and checks losses.

    Put it before `keras.Model` in the bases. It is not a `keras.Model` itself: Keras rewrites the bases of
    a functional model's classes. Without a strategy, and on other backends than TensorFlow, everything is
    Keras's, except that heads with sampled class centres are trained and evaluated as under a strategy.

    Under a strategy, `fit`, `evaluate` and `predict` compile forward and backward pass inside
    each replica if `jit_compile=True` was asked for (`"auto"` means no XLA there, as in Keras), weigh each
    replica's part by its rows, and work with `MirroredStrategy` and `MultiWorkerMirroredStrategy`.

    What differs there:

    - With XLA, `keras.layers.Dropout` and `keras.random` draw other bits than without, the same ones on each run.
    - Unequal shares of a batch add up to the batch's loss for losses that are means over the samples, and for
      losses with the reduction `"sum"` if all losses have it. Where both kinds are mixed, the sums are right only
      if the replicas divide the batch. The reduction `"mean_with_sample_weight"` weighs shares by rows, not by weights.
    - A head whose margin follows sums or ranks of the whole batch (`Head.needs_of_batch`) takes one more forward pass a
      step, without a gradient. Layers that draw from `keras.random` draw the same in both.
    - Each shape of a share is compiled once a replica; a last batch of other size costs a compilation.
    - `BackupAndRestore` is refused, and so is a synchronised batch normalisation with XLA.
    - A `keras.utils.PyDataset` is read in this process: its `workers` are not started.
    """

    def compile(self, *args, **kwargs):
        """Compile as `keras.Model.compile` does, then check the model (see `check_model`).

        Raises:
            ValueError: If `jit_compile=True`, the strategy has several replicas, and a batch normalisation is
                synchronised; or from `check_model`.
        """
        if _functions.is_distributed(self):
            with self.distribute_strategy.scope():
                super().compile(*args, **kwargs)
            refuse_synchronized_batch_norm(self)
        else:
            super().compile(*args, **kwargs)
        if self.loss is not None and getattr(self, "outputs", None):
            check_model(self)

    def compile_from_config(self, config):
        """Compile from the config that `get_compile_config` returned (used by `load_model`)."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force=False):
        """Make `train_function`, unless it is there already."""
        check_trainable(self)
        if not _functions.has_own_loop(self):
            return super().make_train_function(force=force)
        refuse_synchronized_batch_norm(self)
        if self.train_function is None or force:
            self.train_function = _functions.make_function(self, training=True)
        return self.train_function

    def make_test_function(self, force=False):
        """Make `test_function`, unless it is there already."""
        if not _functions.has_own_loop(self):
            return super().make_test_function(force=force)
        if self.test_function is None or force:
            self.test_function = _functions.make_function(self, training=False)
        return self.test_function

    def make_predict_function(self, force=False):
        """Make `predict_function`, unless it is there already."""
        if not _functions.is_distributed(self):
            return super().make_predict_function(force=force)
        if self.predict_function is None or force:
            self.predict_function = _functions.make_predict_function(self)
        return self.predict_function

    def fit(self, *args, **kwargs):
        """Train; see `keras.Model.fit`."""
        check_trainable(self)
        _fit.set_monitor_modes(self, args[5] if len(args) > 5 else kwargs.get("callbacks"))
        if not _functions.has_own_loop(self):
            return super().fit(*args, **kwargs)
        return _fit.fit(self, *args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluate; see `keras.Model.evaluate`."""
        if not _functions.has_own_loop(self):
            return super().evaluate(*args, **kwargs)
        return _fit.evaluate(self, *args, **kwargs)

    def predict(self, *args, **kwargs):
        """Predict; see `keras.Model.predict`."""
        if not _functions.is_distributed(self):
            return super().predict(*args, **kwargs)
        return _fit.predict(self, *args, **kwargs)

    def predict_on_batch(self, x):
        """Predict a batch, under a strategy split over the replicas; see `keras.Model.predict_on_batch`."""
        if not _functions.is_distributed(self):
            return super().predict_on_batch(x)
        return _fit.predict_on_batch(self, x)

    def save(self, filepath, *args, **kwargs):
        """Save as `keras.Model.save` does, which must be in the `.keras` format.

        Raises:
            ValueError: If `filepath` ends in `.h5` or `.hdf5`.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                f"`filepath` must end in .keras: from HDF5, Keras would not load a {type(self).__name__} again. "
                f"`save_weights` may write .weights.h5. Received: filepath={str(filepath)!r}"
            )
        return super().save(filepath, *args, **kwargs)
