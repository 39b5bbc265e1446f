"""Class labels as they come: sparse or one-hot, checked, never silently gathered."""

import keras
import numpy as np
from keras import ops

FLOAT32_EXACT_CLASSES = 2**24
"""Keras hands labels to a loss as float32, which is exact for whole numbers up to here."""


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
    if is_sparse(labels, shape):
        labels = ops.squeeze(labels, axis=-1) if len(labels.shape) == len(shape) else labels
        _check_float32_range(labels, num_classes)
        valid = ops.logical_and(labels >= 0, labels < num_classes)
        if keras.backend.is_float_dtype(labels.dtype):
            valid = ops.logical_and(valid, ops.equal(labels, ops.floor(labels)))
        expected = f"a whole number in [0, {num_classes})"
        ids = labels
    else:
        ones = ops.sum(ops.cast(ops.equal(labels, 1), "int32"), axis=-1)
        zeros = ops.sum(ops.cast(ops.equal(labels, 0), "int32"), axis=-1)
        valid = ops.logical_and(ops.equal(ones, 1), ops.equal(zeros, num_classes - 1))
        expected = "a one-hot row (one 1, else 0)"
        ids = ops.argmax(labels, axis=-1)
    _raise_if_invalid(labels, valid, expected)
    return ops.cast(ops.where(valid, ids, ops.zeros_like(ids)), "int32"), valid


def class_probabilities(labels, shape, tolerance=1e-3):
    """Dense labels as target distributions, and which of them are valid."""
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


def _check_float32_range(labels, num_classes):
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if num_classes > FLOAT32_EXACT_CLASSES and dtype == "float32":
        raise ValueError(
            f"Class ids past 2^24 are not exact in {dtype}, which is how Keras hands labels to a loss. "
            f"Expected at most {FLOAT32_EXACT_CLASSES} classes. Received: num_classes={num_classes}"
        )


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
