"""BLUFR's lists in a MATLAB file."""

import os

import numpy as np

from keras_normface.protocols.text_lines import ProtocolFileError

INDICES = {"train": "trainIndex", "test": "testIndex", "gallery": "galIndex", "probes": "probIndex"}
FIELDS = ("imageList", "labels", *INDICES.values())
HDF5 = b"\x89HDF\r\n\x1a\n"


def read_matlab_lists(path):
    """Read the lists of a `blufr_lfw_config.mat` as they stand.

    Args:
        path: A MATLAB file of version 5 to 7.

    Returns:
        As `read_text_lists`.

    Raises:
        ProtocolFileError: If the file is damaged, of MATLAB's version 7.3, lacks a variable, or a variable is of
            another kind.
        ImportError: If SciPy is missing.
        OSError: If the file cannot be read.
    """
    path = os.fspath(path)
    variables = _variables(path)
    names = [_text(cell, path) for cell in _cells(variables, "imageList", path)]
    labels = _numbers(variables["labels"], "labels", path)
    sets = {
        kind: [_numbers(cell, field, path) - 1 for cell in _cells(variables, field, path)]
        for kind, field in INDICES.items()
    }
    if len({len(trials) for trials in sets.values()}) != 1:
        counts = ", ".join(f"{len(sets[kind])} in {field}" for kind, field in INDICES.items())
        raise ProtocolFileError(f"the cells of {path} must have the same number of trials. They have {counts}")
    return names, labels, [dict(zip(sets, trial, strict=True)) for trial in zip(*sets.values(), strict=True)]


def _variables(path):
    with open(path, "rb") as file:
        head = file.read(520)
    if HDF5 in (head[:8], head[512:]):
        raise ProtocolFileError(
            f"{path} is of MATLAB's version 7.3 (HDF5), which is not read here. "
            "Save it in MATLAB with save(..., '-v7'), or give the directory of BLUFR's text lists"
        )
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise ImportError("MATLAB files need SciPy: pip install keras-normface[mat]") from error
    try:
        variables = loadmat(path, variable_names=list(FIELDS))
        found = [name for name, _, _ in whosmat(path)]
    # SciPy raises what its decoders happen to raise: zlib.error, TypeError, struct.error, MemoryError and others.
    except Exception as error:
        raise ProtocolFileError(f"{path} is no MATLAB file that can be read: {error}") from error
    missing = [field for field in FIELDS if field not in variables]
    if missing:
        raise ProtocolFileError(
            f"{path} lacks the variables {', '.join(missing)}. It holds: {', '.join(found) or 'none'}"
        )
    return variables


def _cells(variables, field, path):
    cells = variables[field]
    if cells.dtype != object or cells.ndim != 2 or 1 not in cells.shape:
        raise ProtocolFileError(
            f"{field} in {path} must be a list of cells. It is of shape {cells.shape}, {cells.dtype}"
        )
    return list(cells.ravel())


def _text(cell, path):
    if not isinstance(cell, np.ndarray) or cell.dtype.kind != "U" or cell.size != 1:
        raise ProtocolFileError(f"imageList in {path} must hold text. Received: {str(cell)[:80]!r}")
    return str(cell.item()).strip()


def _numbers(cell, field, path):
    right = isinstance(cell, np.ndarray) and cell.dtype.kind in "fiu" and cell.ndim == 2 and 1 in cell.shape
    if not right or not np.isfinite(cell).all() or (cell != np.floor(cell)).any() or (abs(cell) > 2**31).any():
        raise ProtocolFileError(f"{field} in {path} must hold lists of whole numbers. Received: {str(cell)[:80]!r}")
    return cell.ravel().astype("int64")
