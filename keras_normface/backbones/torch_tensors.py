"""Tensors of a PyTorch state dict, from a dictionary or from a file, as float32 arrays. Nothing of a file is run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

WRAPPINGS = ("state_dict", "state_dict_backbone")
PARALLEL = "module."
# Before this release, a file could run code in spite of `weights_only=True` (CVE-2025-32434).
OLDEST_TORCH = (2, 6)
COUNTER = "num_batches_tracked"


class ConversionError(ValueError):
    """Tensors are not those of the model, or cannot be read. The message lists all that is wrong."""


def read_tensors(source):
    """Return the tensors of a state dict by name, without the wrappings that are common around one.

    A dictionary under `state_dict` or `state_dict_backbone` (InsightFace's checkpoints) is taken out, if no tensor
    lies beside it; a prefix `module.` (`DataParallel`) is taken off if every name has it. Counters of batches
    (`num_batches_tracked`) stay as they are; everything else becomes float32.

    Args:
        source: A dictionary from names to NumPy arrays or PyTorch tensors; or the path of a file: `.safetensors` (needs
            the package safetensors), or `.pt` or `.pth` (needs torch 2.6 or newer, which then reads tensors alone).

    Returns:
        A dictionary from names to arrays.

    Raises:
        ConversionError: If a value is no tensor of finite floating-point numbers, or the file is damaged or names
            anything that could run.
        ValueError: If the file has another ending.
        ImportError: If the package that reads the file is not installed, or too old.

    Example:
    >>> read_tensors({"state_dict": {"module.fc.bias": np.array([1.0, 2.0])}, "epoch": 3})
    {'fc.bias': array([1., 2.], dtype=float32)}
    """
    given = source if isinstance(source, Mapping) else _read_file(Path(source))
    given = _unwrapped(given)
    if given and all(isinstance(name, str) and name.startswith(PARALLEL) for name in given):
        given = {name.removeprefix(PARALLEL): value for name, value in given.items()}
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


def _unwrapped(given):
    for key in WRAPPINGS:
        if isinstance(given.get(key), Mapping) and not any(hasattr(value, "shape") for value in given.values()):
            return given[key]
    return given


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
    readers = {".safetensors": _read_safetensors, ".pt": _read_pickled, ".pth": _read_pickled}
    if path.suffix not in readers:
        raise ValueError(f"`source` must end in .safetensors, .pt or .pth. Received: source={str(path)!r}")
    reader = readers[path.suffix](path)
    try:
        given = reader()
    except OSError:
        raise
    except Exception as error:  # each reader has several of its own
        raise ConversionError(
            f"`source` cannot be read as tensors alone. Received: source={str(path)!r}: "
            f"{type(error).__name__}: {str(error)[:500]}"
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
    return lambda: torch.load(path, map_location="cpu", weights_only=True)
