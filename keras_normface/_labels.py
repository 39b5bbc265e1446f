"""Class labels as they come: any numeric type, sparse or one-hot, checked, never silently gathered."""

import math

import keras
import numpy as np
from keras import ops

EXACT_UP_TO = {"float32": 2**24, "float16": 2**11, "bfloat16": 2**8}
"""Up to where the types of labels hold every integer. Keras hands labels to a loss as float32."""

_NUMERIC = ("int", "uint", "float", "bfloat", "bool")


def as_tensor(argument, value, dtype=None):
    """Numbers in a tensor, variable, array or nested lists → tensor of known rank, of `dtype` if one is given."""
    check_numeric(argument, value)
    if keras.backend.is_keras_tensor(value):
        return value
    if isinstance(value, list | tuple) and all(isinstance(leaf, np.generic) for leaf in keras.tree.flatten(value)):
        value = np.asarray(value)
    if isinstance(value, list | tuple) and any(hasattr(leaf, "shape") for leaf in keras.tree.flatten(value)):
        tensor = ops.stack([as_tensor(argument, item, dtype) for item in value])
    elif _has_bools(value):
        tensor = ops.cast(ops.convert_to_tensor(value), dtype or "int32")
    else:
        tensor = ops.convert_to_tensor(value, dtype=dtype)
    # Keras takes an eager `tf.Variable` for a tensor, and leaves it as it is.
    tensor = ops.copy(tensor) if hasattr(tensor, "assign") else tensor
    try:
        len(tensor.shape)
    except ValueError:
        raise ValueError(f"`{argument}` must have a known number of axes. Received: a tensor of unknown rank") from None
    return tensor


def check_numeric(argument, value):
    """Refuse what holds no real numbers, such as strings and complex numbers, or is sparse or ragged."""
    # The sparse and ragged tensors of TensorFlow, JAX and SciPy by their own attributes: none of them is imported here.
    if any(getattr(value, name, None) is not None for name in ("dense_shape", "todense", "ragged_rank")):
        raise ValueError(
            f"`{argument}` must be a dense tensor (`tf.sparse.to_dense` makes one). "
            f"Received: {argument} of type {type(value).__name__}"
        )
    for leaf in keras.tree.flatten(value) if isinstance(value, list | tuple) else [value]:
        name = _type_name(leaf)
        if not name.startswith(_NUMERIC):
            raise ValueError(
                f"`{argument}` must hold integers, floats or bools, as a tensor, a variable, an array or lists. "
                f"Received: {argument} of type {name}"
            )


def _type_name(value):
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else getattr(dtype, "name", str(dtype)).rpartition(".")[2]


def _has_bools(value):
    leaves = keras.tree.flatten(value) if isinstance(value, list | tuple) else [value]
    return any(_type_name(leaf).startswith("bool") for leaf in leaves)


def targets_called(name, y):
    """Targets of a batch, a dictionary or the labels alone → those that are called so."""
    if not isinstance(y, dict):
        return y
    if name not in y:
        raise ValueError(f"`y` must hold {name!r}, which a head of the model needs. Received: y with {sorted(y)}")
    return y[name]


def is_sparse(labels, shape):
    """Whether `labels` are class ids of shape `(...)` or `(..., 1)`, and not rows over the classes."""
    labels_shape, leading = tuple(labels.shape), shape[:-1]
    if _fits(labels_shape, leading) or _fits(labels_shape, (*leading, 1)):
        return True
    if _fits(labels_shape, shape):
        return False
    raise ValueError(
        f"`y_true` must have shape {leading} or {(*leading, 1)} (class ids) or {shape} (one-hot) to go with "
        f"`y_pred` of shape {shape}. Received: y_true.shape={labels_shape}"
    )


def class_ids(labels, shape):
    """Class ids of sparse or one-hot labels, and which of them are valid."""
    num_classes = _static_num_classes(shape)
    labels = as_tensor("y_true", labels)
    if is_sparse(labels, shape):
        labels = ops.squeeze(labels, axis=-1) if len(labels.shape) == len(shape) else labels
        _check_exact(labels, num_classes)
        ids = _widened(labels)
        valid = ops.logical_and(ids >= 0, ids < num_classes)
        if keras.backend.is_float_dtype(ids.dtype):
            valid = ops.logical_and(valid, ops.equal(ids, ops.floor(ids)))
        expected = f"an integer in [0, {num_classes})"
    else:
        ones = ops.sum(ops.cast(ops.equal(labels, 1), "int32"), axis=-1)
        zeros = ops.sum(ops.cast(ops.equal(labels, 0), "int32"), axis=-1)
        valid = ops.logical_and(ops.equal(ones, 1), ops.equal(zeros, num_classes - 1))
        expected = "a one-hot row (one 1, else 0)"
        ids = ops.argmax(labels, axis=-1)
    _raise_if_invalid(labels, valid, expected)
    return ops.cast(ops.where(valid, ids, ops.zeros_like(ids)), "int32"), valid


def class_probabilities(labels, shape, tolerance=1e-3):
    """Dense labels, floats, as target distributions, and which of them are valid."""
    total = ops.sum(labels, axis=-1)
    valid = ops.logical_and(ops.abs(total - 1.0) <= tolerance, ops.min(labels, axis=-1) >= 0)
    _raise_if_invalid(labels, valid, f"a row of {shape[-1]} probabilities that sum to 1")
    return labels, valid


def nan_where_invalid(losses, valid):
    """Per-sample losses with NaN where the label was not valid."""
    return ops.where(valid, losses, ops.full_like(losses, float("nan")))


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        a is None or b is None or a == b for a, b in zip(shape, wanted, strict=True)
    )


def _static_num_classes(shape):
    if shape[-1] is None:
        raise ValueError(f"The number of classes must be known. Received: y_pred.shape={tuple(shape)}")
    return shape[-1]


def _check_exact(labels, num_classes):
    dtype = keras.backend.standardize_dtype(labels.dtype)
    most = EXACT_UP_TO.get(dtype, math.inf)
    if num_classes > most:
        raise ValueError(
            f"`y_true` of type {dtype} holds class ids exactly up to 2^{most.bit_length() - 1} only. Keras casts the "
            f"labels of a loss to float32; a head takes integer labels as they are. Received: num_classes={num_classes}"
        )


def _widened(labels):
    """Labels in a type that also holds the number of classes: uint8 would turn 256 into 0, bfloat16 257 into 256."""
    # Unsigned labels past the signed type's range become negative, which no class is either.
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if dtype in ("float64", "int64", "uint64"):
        return ops.cast(labels, "int64") if dtype == "uint64" else labels
    return ops.cast(labels, "float32" if keras.backend.is_float_dtype(dtype) else "int32")


def _raise_if_invalid(labels, valid, expected):
    valid = _concrete(valid)
    if valid is None or valid.all():
        return
    first = np.unravel_index(int(np.argmin(valid)), valid.shape)
    received = np.asarray(ops.convert_to_numpy(labels))[first]
    raise ValueError(
        f"`y_true` must hold {expected} for every sample; {int((~valid).sum())} of {valid.size} do not. "
        f"Received: y_true[{', '.join(map(str, first))}]={received}"
    )


def _concrete(tensor):
    """The tensor as an array, or None inside a graph, where it has no value yet."""
    if keras.backend.backend() == "tensorflow" and not hasattr(tensor, "numpy"):
        return None
    try:
        return np.asarray(ops.convert_to_numpy(tensor))
    except (TypeError, ValueError):
        return None
