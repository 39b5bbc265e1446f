"""What importing the package loads; saved things load in whichever order Keras and the package are imported."""

import subprocess
import sys

import keras
import pytest

import keras_normface as nf

HEAVY = ("keras", "tensorflow", "matplotlib", "scipy", "sklearn", "PIL")
ROOMS = ("metrics", "protocols", "prepare")


def run(*lines):
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model with a head, a margin and losses of ours, saved."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    head = nf.MarginSoftmaxHead(3, nf.margins.AdditiveCosine(0.2), name="head")
    model = nf.EmbeddingModel(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), head)
    model.compile(nf.CoupledSGD(0.1))
    model.fit(keras.random.normal((6, 4)), keras.ops.arange(6) % 3, verbose=0)
    model.save(path)
    return path


def test_a_bare_import_loads_neither_keras_nor_tensorflow():
    shown = run("import sys, keras_normface", f"print([m for m in {HEAVY} if m in sys.modules])")
    assert shown == "[]\n"


ORDERS = {
    "keras first": ["import keras", "import keras_normface", "from keras.saving import load_model"],
    "ours first": ["import keras_normface", "import keras", "from keras.saving import load_model"],
    "ours, then from keras.saving": ["import keras_normface", "from keras.saving import load_model"],
    "a room of ours before keras": ["from keras_normface.sphere import EPSILON", "from keras.saving import load_model"],
    # Not `keras` and `keras.saving` at once: Keras itself does not stand that (a deadlock of its own modules).
    "threads import keras and rooms of ours": [
        "import threading, keras_normface",
        "from importlib import import_module",
        "names = ['keras', 'keras_normface.layers', 'keras', 'keras_normface.heads', 'keras_normface.losses']",
        "failed = []",
        "threading.excepthook = failed.append",
        "threads = [threading.Thread(target=import_module, args=(name,)) for name in names]",
        "[thread.start() for thread in threads]",
        "[thread.join() for thread in threads]",
        "assert not failed, failed",
        "from keras.saving import load_model",
    ],
}


SLOW = [pytest.mark.slow]  # each is a process with a TensorFlow
OTHER_ORDERS = "ours, then from keras.saving", "a room of ours before keras"


@pytest.mark.parametrize(
    "order", [pytest.param(order, marks=SLOW if order in OTHER_ORDERS else ()) for order in ORDERS]
)
def test_saved_models_and_losses_load(order, saved):
    shown = run(
        *ORDERS[order],
        "import sys, keras",
        "name = 'keras_normface>AMSoftmaxLoss'",
        "spec = {'class_name': 'AMSoftmaxLoss', 'registered_name': name, 'config': {}, 'module': None}",
        f"print(type(load_model({str(saved)!r})).__name__)",
        "print(type(keras.saving.deserialize_keras_object(spec)).__name__)",
        f"print([room for room in {ROOMS} if 'keras_normface.' + room in sys.modules])",
        "print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith('keras_n')])",
    )
    assert shown.splitlines() == ["EmbeddingModel", "AMSoftmaxLoss", "[]", "[]"]


def test_names_are_there_and_others_are_not():
    assert set(nf.__all__) <= set(dir(nf))
    assert all(getattr(nf, name) is not None for name in nf.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nf.no_such_name


def test_a_thread_that_imports_a_room_while_keras_registers_does_not_end_the_import_of_keras():
    """The room waits for Keras, and Keras's registration for the room: Python calls that a deadlock."""
    shown = run(
        "import sys, threading, time, keras_normface",
        "from importlib import import_module",
        "from keras_normface import _registration",
        "register = _registration.register",
        "thread = threading.Thread(target=import_module, args=['keras_normface.heads'])",
        "def late():",
        "    _registration.register = register",
        "    thread.start()",
        "    time.sleep(1)",
        "    register()",
        "_registration.register = late",
        "import keras",
        "thread.join()",
        "print(keras.saving.get_registered_object('keras_normface>AMSoftmaxLoss').__name__)",
        "print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith('keras_n')])",
    )
    assert shown == "AMSoftmaxLoss\n[]\n"
