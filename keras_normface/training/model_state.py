"""All that training changes in a model: its variables, seeds included, the optimizer's and the metrics'."""

import re

import numpy as np
from keras import ops


def state_variables(model):
    """Return the variables of a compiled model by group.

    Args:
        model: A built and compiled `keras.Model` with a built optimizer.

    Returns:
        Dictionary with the keys `"model"` (weights, and the states of seed generators, which `model.weights`
        leaves out), `"optimizer"` (with the iterations and the learning rate) and `"metrics"`.
    """
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def read_state(model, groups):
    """Read the values of a model's state.

    Args:
        model: See `state_variables`.
        groups: Which of the groups.

    Returns:
        Pair of the entries, dictionaries with `group` and `path`, and the list of NumPy arrays.
    """
    state, entries, arrays = state_variables(model), [], []
    for group in groups:
        for variable in state[group]:
            entries.append({"group": group, "path": variable.path})
            arrays.append(np.array(ops.convert_to_numpy(variable)))
    return entries, arrays


def first_non_finite(entries, arrays):
    """Return the path of the first weight or optimizer variable with a NaN or an infinity, or `None`."""
    for entry, array in zip(entries, arrays, strict=True):
        if entry["group"] != "metrics" and not np.isfinite(array).all():
            return entry["path"]
    return None


def restore_state(model, groups, entries, arrays):
    """Give a model the values that `read_state` took from one of the same structure.

    Either all the groups are restored or, where they do not fit, nothing.

    Args:
        model: See `state_variables`.
        groups: Which of the groups.
        entries: From `read_state`.
        arrays: From `read_state`.

    Raises:
        ValueError: If a variable of the model and its entry have different paths, shapes or dtypes, or one
            is missing. The numbers that Keras adds to names (`dense_1`) are not compared.
    """
    for variable, array in pairs_of(model, groups, entries, arrays):
        variable.assign(array)


def pairs_of(model, groups, entries, arrays):
    """Return the variables of a model, each with its value among those that `read_state` took.

    Args:
        model: See `state_variables`.
        groups: Which of the groups.
        entries: From `read_state`.
        arrays: From `read_state`.

    Raises:
        ValueError: See `restore_state`.
    """
    state, pairs = state_variables(model), []
    for group in groups:
        saved = [(e, a) for e, a in zip(entries, arrays, strict=True) if e["group"] == group]
        wanted = state[group]
        for index in range(max(len(saved), len(wanted))):
            ours = _signature(wanted[index].path, wanted[index]) if index < len(wanted) else None
            theirs = _signature(saved[index][0]["path"], saved[index][1]) if index < len(saved) else None
            if _comparable(ours) != _comparable(theirs):
                raise ValueError(
                    f"The checkpoint is of another model. First difference, {group} variable {index}: "
                    f"the checkpoint has {_text(theirs)}, the model has {_text(ours)}"
                )
            pairs.append((wanted[index], saved[index][1]))
    return pairs


def _signature(path, value):
    return path, tuple(value.shape), str(value.dtype)


def _comparable(signature):
    """Drop Keras's counters from a path: they depend on what else the process has made."""
    if signature is None:
        return None
    path, *rest = signature
    return re.sub(r"_\d+(?=[_/]|$)", "", path), *rest


def _text(signature):
    if signature is None:
        return "none"
    path, shape, dtype = signature
    return f"`{path}` {shape} {dtype}"
