"""TensorFlow's notices about GPUs stay off the screen of a machine without one; everything else is shown."""

import glob
import os
import re
import subprocess
import sys
import time

import pytest

from keras_normface import startup

NOTICE = re.compile("cuda|cuInit|cuFFT|cuDNN|cuBLAS|CPU instructions|rebuild TensorFlow|InitializeLog|oneDNN|TensorRT")
without_gpu = pytest.mark.skipif(
    any(glob.glob(device) for device in startup.GPU_DEVICES), reason="the machine has a GPU: nothing is hidden"
)


def run(*lines, **environment):
    environment = {**os.environ, **environment}
    if "TF_CPP_MIN_LOG_LEVEL" in environment and not environment["TF_CPP_MIN_LOG_LEVEL"]:
        del environment["TF_CPP_MIN_LOG_LEVEL"]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@without_gpu
def test_nothing_is_shown_up_to_the_first_use_of_a_device():
    done = run(
        "import sys",
        "from keras_normface.startup import load_tensorflow",
        "load_tensorflow()",
        "import keras",
        "cpu = sys.modules['tensorflow'].config.list_physical_devices('CPU')[0]",
        "two = [sys.modules['tensorflow'].config.LogicalDeviceConfiguration()] * 2",
        "sys.modules['tensorflow'].config.set_logical_device_configuration(cpu, two)  # no device is in use yet",
        "print(float(keras.ops.sum(keras.ops.ones((2, 2)))))",
        TF_CPP_MIN_LOG_LEVEL="",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4.0\n", "")


NOTICES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers on your machine",
    "E external/local_xla/xla/stream_executor/cuda/cuda_fft.cc:477] Unable to register cuFFT factory: Attempting",
    "E0000 00:00:1.2 3 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to register factory",
    "E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: UNKNOWN ERROR (303)",
    "I tensorflow/core/util/port.cc:153] oneDNN custom operations are on. You may see slightly different numerical",
    "I0000 00:00:1.2 3 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU "
    "instructions in performance-critical operations.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the flags.",
    "W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find TensorRT",
]


def test_other_lines_are_shown_also_if_the_process_dies(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\n"
        f"os.write(2, {os.linesep.join(NOTICES).encode()!r} + b'\\n')\n"
        "os.write(2, b'F0000 cpu_feature_guard.cc:16] AVX instructions are not available on your machine.\\n')\n"
        "os.abort()\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = run(
        "from keras_normface import startup", "startup.GPU_DEVICES = ()", "startup.load_tensorflow()", PYTHONPATH=paths
    )
    assert done.returncode < 0
    assert done.stderr == "F0000 cpu_feature_guard.cc:16] AVX instructions are not available on your machine.\n"


def test_an_error_of_the_import_is_raised_and_the_screen_is_given_back(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'half a line')\nraise ImportError('no symbol')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = run(
        "import os",
        "from keras_normface import startup",
        "startup.GPU_DEVICES = ()",
        "try:",
        "    startup.load_tensorflow()",
        "except ImportError as error:",
        "    os.write(2, f' and {error}, failed call to cuInit'.encode())",
        PYTHONPATH=paths,
    )
    assert (done.returncode, done.stderr) == (0, "half a line and no symbol, failed call to cuInit")


def test_with_a_gpu_nothing_is_hidden(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'failed call to cuInit')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    lines = [
        "from keras_normface import startup",
        f"startup.GPU_DEVICES = ({str(tmp_path)!r},)",
        "startup.load_tensorflow()",
    ]
    assert run(*lines, PYTHONPATH=paths).stderr == "failed call to cuInit"


def test_a_function_is_called_once_tensorflow_is_there(tmp_path):
    (tmp_path / "tensorflow.py").write_text("class config:\n    list_physical_devices = list\n")
    (tmp_path / "heavy.py").write_text(
        "import sys\nfound = 'tensorflow' in sys.modules\ndef told(*a): return found, a\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    lines = [
        "from keras_normface.startup import call_after_loading",
        "print(call_after_loading('heavy', 'told', 1, 2))",
    ]
    assert run(*lines, PYTHONPATH=paths).stdout == "(True, (1, 2))\n"


@without_gpu
def test_neither_an_ignored_signal_nor_a_process_that_keeps_standard_error_open_stops_it():
    before = time.monotonic()
    done = run(
        "import signal, subprocess, sys",
        "from keras_normface import startup",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "with startup._without_notices():",
        "    pass",
        "signal.signal(signal.SIGCHLD, signal.SIG_DFL)",
        "with startup._without_notices():",
        "    print('a line', file=sys.stderr)",
        "    process = subprocess.Popen(['sleep', '60'])",
        "print('done')",
        "process.kill()",
    )
    assert done.stdout == "done\n"
    assert done.stderr == "a line\n"
    assert time.monotonic() - before < 50


def test_lines_of_cpp_that_match_are_dropped_and_others_shown(capfd):
    with startup.stderr_without(rb"^INFO: Created"):
        os.write(2, b"INFO: Created a delegate\nERROR: a real one\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "ERROR: a real one\nafter\n"
