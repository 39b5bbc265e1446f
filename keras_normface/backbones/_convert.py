"""Tensors of a PyTorch state dict, from a dictionary or from a file, as float32 arrays. Nothing of a file is run."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_normface.backbones._torch_names import layout_of, module_names, other_network

WRAPPINGS = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net", "network")
PREFIXES = ("module.", "model.", "backbone.", "net.", "network.")
COMPILED = "_orig_mod."
DEEPEST = 4
# Before this release, a file could run code in spite of `weights_only=True` (CVE-2025-32434).
OLDEST_TORCH = (2, 6)
COUNTER = "num_batches_tracked"
# Weights that several names share count for each. A tensor of one number, expanded, has any size.
MOST_EXPANSION, ALWAYS_ALLOWED = 4, 1 << 20


class ConversionError(ValueError):
    """Tensors are not those of the model, or cannot be read. The message lists all that is wrong."""


def read_tensors(source, layout):
    """Return the tensors of a state dict by name, without the wrappings that are common around one, nor a head's."""
    given = source if isinstance(source, Mapping) else _read_file(Path(source))
    given = _unwrapped(given)
    if not isinstance(source, Mapping):
        _check_total(given, source)
    given = _without_prefixes(given, layout)
    arrays, problems = {}, []
    for name, value in given.items():
        array, problem = (value, None) if str(name).endswith(f".{COUNTER}") else _array(value)
        if problem:
            problems.append(f"{name}: {problem}")
        else:
            arrays[name] = array
    if problems:
        raise ConversionError("\n".join(["`source` must hold finite floating-point tensors alone:", *problems]))
    return arrays


def _largest_total(path):
    """Return how many bytes the tensors of a file may have together."""
    return max(MOST_EXPANSION * os.path.getsize(path), ALWAYS_ALLOWED)


def _check_total(given, path):
    """Refuse tensors that are far larger than their file, before they are made arrays."""
    tensors = [value for value in given.values() if hasattr(value, "shape") and hasattr(value, "dtype")]
    total = sum(math.prod(value.shape) * getattr(value.dtype, "itemsize", 1) for value in tensors)
    if total > _largest_total(path):
        raise ConversionError(
            "`source` must hold the numbers of its tensors, not views that repeat them. "
            f"Received: source={str(path)!r} of {os.path.getsize(path)} bytes with tensors of {total}"
        )


def _check_members(path):
    """Refuse a zipped file whose members are compressed to little, which PyTorch never does."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > _largest_total(path):
            raise ValueError(f"its members have {total} bytes, the file {os.path.getsize(path)}")


def _unwrapped(given):
    """The state dict of a checkpoint: the only dictionary with tensors, or the one under a usual name."""
    for _ in range(DEEPEST):
        if any(tuple(getattr(value, "shape", ())) for value in given.values()):  # numbers may be tensors: the epoch
            break
        inner = {key: value for key, value in given.items() if isinstance(value, Mapping)}
        states = {key: d for key, d in inner.items() if any(hasattr(value, "shape") for value in d.values())}
        usual = {key: d for key, d in (states or inner).items() if key in WRAPPINGS}
        found = usual or states
        if len(found) > 1:
            raise ConversionError(
                "`source` must hold one network. Hand over the dictionary of the one that is meant. "
                f"Received: dictionaries of tensors under {sorted(map(str, found))}"
            )
        if not found:
            break
        (given,) = found.values()
    return given


def _without_prefixes(given, layout):
    """The tensors by the network's own names: without what wrapping modules put before all of them, nor a head's."""
    if not all(isinstance(name, str) for name in given):
        return given
    plain = {name.replace(COMPILED, ""): value for name, value in given.items()}  # of `torch.compile`, at any depth
    given = plain if len(plain) == len(given) else given
    while given:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in given)), None)
        if prefix is not None:
            given = {name.removeprefix(prefix): value for name, value in given.items()}
        elif layout.holds_head(given):
            given = _without_head(given, layout)
        else:
            break
    return given


def _without_head(given, layout):
    """The network's tensors by its own names, and by theirs those that are neither its own nor of the known head."""
    inside = [name for name in given if name.startswith(layout.within)]
    parallel = f"{layout.within}module."
    start = parallel if all(name.startswith(parallel) for name in inside) else layout.within
    own = {name.removeprefix(start): given[name] for name in inside}
    rest = {name: value for name, value in given.items() if not name.startswith(layout.within)}
    rest = {name: value for name, value in rest.items() if name not in layout.beside}
    return {**own, **{f"beside {name}" if name in own else name: value for name, value in rest.items()}}


def _array(value):
    """Return the value as a float32 array, and what is wrong with it, one of them `None`."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return None, f"a {type(value).__name__}, no tensor"
    if hasattr(value, "is_floating_point"):
        if not value.is_floating_point():
            return None, f"numbers of type {value.dtype}"
        try:
            value = value.detach().cpu().float().numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantised or without memory
            return None, f"no plain tensor: {error}"
    # NumPy does not count the bfloat16 of ml_dtypes among its floating-point types.
    if not np.issubdtype(value.dtype, np.floating) and value.dtype.name != "bfloat16":
        return None, f"numbers of type {value.dtype}"
    with np.errstate(over="ignore"):
        value = np.asarray(value).astype("float32")
    if not np.isfinite(value).all():
        return None, f"{np.count_nonzero(~np.isfinite(value))} numbers are not finite in float32"
    return value, None


def _read_file(path):
    readers = {".safetensors": _read_safetensors} | dict.fromkeys((".pt", ".pth", ".ckpt"), _read_pickled)
    if path.suffix not in readers:
        raise ValueError(f"`source` must end in .safetensors, .pt, .pth or .ckpt. Received: source={str(path)!r}")
    reader = readers[path.suffix](path)
    try:
        given = reader()
    except OSError:
        raise
    except Exception as error:  # each reader has several of its own
        raise ConversionError(
            f"`source` cannot be read as tensors alone. Received: source={str(path)!r}: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        ) from error
    if not isinstance(given, Mapping):
        raise ConversionError(
            f"`source` must hold a state dict. Received: source={str(path)!r} with a {type(given).__name__}"
        )
    return given


def _read_safetensors(path):
    from safetensors.numpy import load_file

    return lambda: load_file(path)


def _read_pickled(path):
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise ImportError(f"torch must be at least 2.6, since older ones can run code. Received: {torch.__version__}")

    def load():
        _check_members(path)
        return torch.load(path, map_location="cpu", weights_only=True)

    return load


BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def load_torch(model, source):
    """Set a model's weights to those of a published PyTorch network.

    Nothing is changed unless every weight finds its tensor, every tensor its weight, and all shapes agree; only a batch
    norm's `num_batches_tracked` has no weight here. Convolutions are turned from (out, in, height, width) to (height,
    width, in, out), and the dense layer's inputs from the order channel, height, width to height, width, channel.

    A checkpoint may hold the network in one of its dictionaries: the only one with tensors, or the one called
    `state_dict`, `state_dict_backbone`, `model_state_dict`, `model`, `backbone`, `net` or `network`. What wrapping
    modules put before all names is removed, however often: `module.`, `model.`, `backbone.`, `net.`, `network.`, and
    the `_orig_mod.` of `torch.compile` anywhere. MagFace's and AdaFace's checkpoints hold the head too: beside
    `features.`, `fc.weight` or `parallel_fc.weight`; beside `model.`, `head.kernel`, `head.t`, `head.batch_mean` and
    `head.batch_std`. These alone are skipped.

    Args:
        model: An `IResNet`, or a `SphereFaceNet(variant="opensphere")`, of the depth, the size and the variant of the
            network: `"magface"` for MagFace's, `"adaface"` for AdaFace's and for CVLface's `iresnet`, `"insightface"`
            for InsightFace's, OpenSphere's and CVLface's `iresnet_insightface`. MagFace's tensors without `features.`
            are called as InsightFace's are, and fit both.
        source: A dictionary from names to NumPy arrays or PyTorch tensors; or the path of a file: `.safetensors` (needs
            the package safetensors), or `.pt`, `.pth` or `.ckpt` (needs torch 2.6 or newer; nothing in the file is
            run).

    Raises:
        ConversionError: If the tensors are not those of the model, of several networks, not finite floating-point
            numbers, or of more than four times the bytes of their file (and more than 1 MiB). The message lists all
            differences, and which variant has such names.
        ValueError: If the model is none of these, or the file has another ending.
        ImportError: If the package that reads the file is not installed.

    Source: deepinsight/insightface, `recognition/arcface_torch/backbones/iresnet.py`; ydwen/opensphere,
    `model/backbone/iresnet.py` and `model/backbone/sfnet.py`; IrvingMeng/MagFace, `models/` and `run/`;
    mk-minchul/AdaFace, `train_val.py` and `head.py`; mk-minchul/CVLface, `models/iresnet/model.py`.

    Example:
    >>> import numpy as np
    >>> from keras_normface.backbones import SphereFaceNet
    >>> model = SphereFaceNet(4, input_shape=(16, 16, 3), variant="opensphere")
    >>> tensors = {"fc.weight": np.zeros((512, 512)), "fc.bias": np.zeros(512)}
    >>> tensors |= {f"layer{i}.0.conv1.bias": np.zeros(32 * 2**i) for i in (1, 2, 3, 4)}
    >>> tensors |= {f"layer{i}.0.conv1.weight": np.zeros((32 * 2**i, 16 * 2**i, 3, 3)) for i in (2, 3, 4)}
    >>> load_torch(model, tensors)
    Traceback (most recent call last):
        ...
    keras_normface.backbones._convert.ConversionError: The tensors are not those of spherefacenet4:
    layer1.0.conv1.weight: missing
    >>> load_torch(model, {"layer1.0.conv1.weight": np.zeros((64, 3, 3, 3)), **tensors})
    """
    layout = layout_of(model)
    expected, counters = _expected(model, layout.table)
    tensors = read_tensors(source, layout)
    pairs, problems = [], []
    for name, (weight, arranged) in expected.items():
        if name not in tensors:
            problems.append(f"{name}: missing")
            continue
        given = tensors[name]
        value = arranged(given)
        if value is None or value.shape != tuple(weight.shape):
            problems.append(f"{name}: shape {given.shape} does not fit {weight.path} of shape {tuple(weight.shape)}")
        else:
            pairs.append((weight, value))
    problems.extend(f"{name}: not in the model" for name in tensors if name not in expected and name not in counters)
    if problems:
        start = f"The tensors are not those of {model.name}{other_network(layout, tensors)}:"
        raise ConversionError("\n".join([start, *problems]))
    for weight, value in pairs:
        weight.assign(value)


def _expected(model, table):
    """By the published name, the weight and what arranges the tensor like it; and the names of the counters."""
    expected, counters = {}, set()
    map_shape = model.get_layer("flatten").input.shape[1:]
    for name, prefix in module_names(model, table).items():
        layer = model.get_layer(name)
        named = _named_weights(layer)
        expected |= {f"{prefix}.{suffix}": (weight, _arranging(weight, map_shape)) for weight, suffix in named}
        counters |= {f"{prefix}.{COUNTER}"} if hasattr(layer, "moving_mean") else set()
    return expected, counters


def _named_weights(layer):
    if hasattr(layer, "moving_mean"):
        weights = [(getattr(layer, name, None), suffix) for name, suffix in BATCH_NORM.items()]
        return [(weight, suffix) for weight, suffix in weights if weight is not None]
    if hasattr(layer, "kernel"):
        return [(layer.kernel, "weight")] + ([(layer.bias, "bias")] if layer.bias is not None else [])
    return [(layer.alpha, "weight")]


def _arranging(weight, map_shape):
    rank = len(weight.shape)
    if rank == 4:
        return lambda given: given.transpose(2, 3, 1, 0) if given.ndim == 4 else None
    if rank == 3:  # PReLU's slopes: (1, 1, channels) here
        return lambda given: given.reshape(1, 1, -1) if given.ndim == 1 else None
    return lambda given: _dense(given, map_shape) if rank == 2 else given


def _dense(given, map_shape):
    height, width, channels = map_shape
    if given.ndim != 2 or given.shape[1] != height * width * channels:
        return None
    ordered = given.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
    return ordered.reshape(height * width * channels, -1)
