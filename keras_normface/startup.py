"""Loads TensorFlow without the lines that it prints about GPUs on a machine that has none."""

import contextlib
import glob
import importlib
import os
import re
import signal
import sys
import tempfile
import threading
import time
from os import _exit as end_process

STDERR = 2
SECONDS_FOR_LAST_LINES = 2
GPU_DEVICES = ("/dev/nvidia*", "/dev/dxg", "/dev/kfd")  # NVIDIA, NVIDIA under WSL, AMD
# TensorFlow prints most of these before it reads TF_CPP_MIN_LOG_LEVEL, and the last kind as errors.
_NOTICES = re.compile(
    rb"All log messages before absl::InitializeLog|oneDNN custom operations are on|Could not find cuda drivers"
    rb"|TensorFlow binary is optimized to use available CPU instructions|To enable the following instructions:"
    rb"|Could not find TensorRT|computation placer already registered|cuda_diagnostics\.cc"
    rb"|Unable to register cu\w+ factory|failed call to cuInit"
)


def load_tensorflow():
    """Import TensorFlow and let it look for devices; without a GPU, what it prints about them is not shown.

    Call it before the first import of Keras or TensorFlow. Where the machine has a GPU, where TensorFlow is imported
    already, and on Windows, it only imports TensorFlow. Otherwise `TF_CPP_MIN_LOG_LEVEL` becomes 2 unless it is set,
    which hides information and warnings, and known notices about CUDA and the processor are removed from standard
    error during the import. Every other line is shown, also if the process dies. Devices are listed, not initialised.

    Raises:
        ImportError: If TensorFlow cannot be imported.

    Example:
    >>> load_tensorflow()
    >>> import tensorflow as tf
    """
    gpu = any(glob.glob(device) for device in GPU_DEVICES)
    # A copy of a process with threads may wait for ever for what one of them holds.
    simple = hasattr(os, "fork") and threading.active_count() == 1 and sys.stderr is not None
    if "tensorflow" in sys.modules or gpu:
        importlib.import_module("tensorflow")
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_notices() if simple else contextlib.nullcontext():
        importlib.import_module("tensorflow").config.list_physical_devices()


def call_after_loading(module, function, *arguments):
    """Load TensorFlow, then call a function of a module that imports it: the first call in a worker process.

    Args:
        module: Name of the module, which is imported only now.
        function: Name of the function.
        *arguments: What it is called with.

    Returns:
        What the function returns.

    Raises:
        ImportError: If TensorFlow or the module cannot be imported.

    Example:
    >>> call_after_loading("math", "sqrt", 9)
    3.0
    """
    load_tensorflow()
    return getattr(importlib.import_module(module), function)(*arguments)


@contextlib.contextmanager
def stderr_without(pattern):
    """Drop the lines that a library's C++ writes to standard error, if they match; the others follow at the end.

    Args:
        pattern: Regular expression, of bytes, that is searched for in each line.

    Yields:
        Nothing. Other threads' lines are held back too, so the time inside should be short.

    Example:
    >>> with stderr_without(rb"^INFO: Created"):
    ...     written = os.write(STDERR, b"INFO: Created something")
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    shown = os.dup(STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(shown, STDERR)
            os.close(shown)
            kept.seek(0)
            for line in kept:
                if not re.search(pattern, line):
                    os.write(STDERR, line)


@contextlib.contextmanager
def _without_notices():
    """Standard error goes through a child process, which outlives this one if it dies, and drops the notices."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    shown = os.dup(STDERR)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _forward(reading, writing, shown)
    os.close(reading)
    os.dup2(writing, STDERR)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, STDERR)
        os.close(shown)
        _wait(child)


def _wait(child):
    """Wait for the last lines, not for a process that was started meanwhile and keeps standard error open."""
    with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
        for _ in range(SECONDS_FOR_LAST_LINES * 100):
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return
            time.sleep(0.01)


def _forward(reading, writing, shown):
    """Copy lines other than notices until the other side is closed, then end this process."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what the other process says of it is still to be shown
        os.close(writing)
        with open(reading, "rb") as lines:
            for line in lines:
                if not _NOTICES.search(line):
                    os.write(shown, line)
    finally:
        end_process(0)
