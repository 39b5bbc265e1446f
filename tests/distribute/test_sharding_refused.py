"""Agents are split over devices on JAX only: TensorFlow says so, and what to do."""

import pytest

from keras_normface import MarginSoftmaxHead
from keras_normface.heads import class_sharding


def test_tensorflow_is_told_what_to_do_instead():
    with pytest.raises(RuntimeError, match=r"KERAS_BACKEND=jax.*MirroredStrategy.*Received: backend 'tensorflow'"):
        class_sharding(MarginSoftmaxHead(8))
