"""Text files of millions of lines of whole numbers."""

import os
import warnings

import numpy as np

from keras_normface.protocols.text_lines import LONGEST_NUMBER, ProtocolFileError, numbered_lines


def read_numbers(path, columns, delimiter=None):
    r"""Read a table of whole numbers, not below 0 and of at most nine digits.

    Args:
        path: The file, with as many numbers in each line; blank lines are passed over.
        columns: What the columns are called, for errors.
        delimiter: What stands between numbers; `None`: white space.

    Returns:
        int64 array `(lines, len(columns))`.

    Raises:
        ProtocolFileError: If a line is another; file and line are named. If there are no lines.
        OSError: If the file cannot be read.

    Example:
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "matches.csv")
    >>> with open(path, "w") as file:
    ...     _ = file.write("1,20\n1,21\n")
    >>> read_numbers(path, ("template", "template"), ",").tolist()
    [[1, 20], [1, 21]]
    """
    path = os.fspath(path)
    # A handle and not the path: of a path, NumPy would decompress a .gz and fetch a URL.
    with open(path, encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = np.loadtxt(file, dtype="int64", comments=None, delimiter=delimiter, ndmin=2)
        except (ValueError, Warning) as error:
            raise _fault(path, columns, delimiter, error) from error
    if table.shape[1] != len(columns) or table.min() < 0 or table.max() >= 10**LONGEST_NUMBER:
        raise _fault(path, columns, delimiter, f"{table.shape[1]} columns, {table.min()} to {table.max()}")
    return table


def _fault(path, columns, delimiter, reason):
    """Return the error for the first line that is wrong, found by reading again line by line."""
    line = None
    for line in numbered_lines(path):
        fields = [field.strip() for field in line.text.split(delimiter)]
        if len(fields) != len(columns):
            return line.error(f"must hold {len(columns)} numbers: {', '.join(columns)}")
        wrong = next((column for field, column in zip(fields, columns, strict=True) if not _is_number(field)), None)
        if wrong is not None:
            return line.error(f"must give the {wrong} as a whole number of at most {LONGEST_NUMBER} digits")
    return ProtocolFileError(f"{path} is empty" if line is None else f"{path} is no table of whole numbers: {reason}")


def _is_number(text):
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER
