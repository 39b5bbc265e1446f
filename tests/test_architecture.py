"""The shape of the package: imports point down, nothing private of Keras, everything public documented."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import keras_normface

ROOT = Path(keras_normface.__file__).parent
# The rooms, lowest first, with what each holds: CONTRIBUTING's table is made from this list. A module may import from
# rooms above it in the list, and from its own room; of another room only what is not private to it.
ROOMS = {
    "version": "the version",
    "startup": "TensorFlow loaded without its notices about GPUs",
    "_io": "files that are written atomically, read by many threads, kept within a directory",
    "_arrays": "arrays of `.npz` files, checked before they are made",
    "_image_headers": "how large images are by their headers, before any is decoded",
    "_registration": "registers the classes with Keras once Keras is imported",
    "_validation": "checks of arguments",
    "_labels": "class labels, checked, sparse or one-hot",
    "_walk": "walks over the layers of a model",
    "sphere": "normalisation, cosines, distances, bounds: pure functions",
    "margins": "ψ and η",
    "preprocessing": "what happens to pixels, for data, training and export",
    "_threshold": "a calibrated threshold, as a record",
    "_alignment": "the record of the template that `align` leaves beside the faces",
    "layers": "`CosineDense`, `LearnableScale`, `L2Constraint`",
    "optimizers": "the weight decay that the papers mean",
    "losses": "losses on cosines, on logits, on the pairs of a batch",
    "fused": "losses on all classes at once, with gradients of their own",
    "backbones": "the papers' networks",
    "heads": "class centres, margin, scale and loss in one layer",
    "checks": "does each loss stand on the layer it is made for, and the model on the data",
    "distribute": "Keras's trainer under `tf.distribute`, XLA inside each replica",
    "models": "`EmbeddingModel`, `DistributedModel`",
    "data": "readers, pair files, training batches that can be entered at any step",
    "metrics": "verification and identification from scores and embeddings: NumPy only",
    "prepare": "photos to aligned faces, data sets to shards",
    "inference": "the exported model, embeddings with it, embeddings stored",
    "protocols": "published benchmarks: definition, files, figures",
    "training": "checkpoints, exact resume, evaluation while training",
    "callbacks": "the callbacks of `training`, as users import them",
    "recipes": "the papers' experiments, each number with its source",
    "gallery": "people enrolled by their embeddings, found again: one SQLite file, or PostgreSQL",
    "cli": "the command `keras-normface`",
    "__init__": "the names at the top",
}
FLOORS = {name: floor for floor, name in enumerate(ROOMS)}
MAY_IMPORT_TENSORFLOW = {"distribute", "models", "training", "data", "inference", "cli", "prepare"}
ASKS_FOR_THE_COMPILER = "fused/_compiled.py"  # the only one of the core: keras.ops has no way to compile
MODULES = sorted(name for _, name, _ in pkgutil.walk_packages([str(ROOT)], "keras_normface.") if "__main__" not in name)
FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = room(path)
    assert own in FLOORS, f"give the room {own} a floor"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "tensorflow":
            known = str(path.relative_to(ROOT)) == ASKS_FOR_THE_COMPILER
            assert known or own in MAY_IMPORT_TENSORFLOW, f"{path} imports {name}"
        if top == "keras_normface" and rest:
            other = rest.split(".")[0]
            allowed = other == own or FLOORS[other] < FLOORS[own]
            assert allowed, f"{path}: {own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"
            parts = rest.split(".")
            private = other != own and any(part.startswith("_") and part != "__version__" for part in parts[1:])
            assert not private, f"{path}: {name} is private to {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_private_of_keras_and_no_assert(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert "keras.src" not in text
    assert "safe_mode" not in text  # `.keras` files are loaded in Keras's safe mode, its default
    assert "unsafe_deserialization" not in text
    assert all("tf_keras" not in name for name in imports(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert own, f"{path}:{node.lineno}: underscore name {node.attr}"


def own_privates(tree):
    """Names with an underscore that a class of this file defines or assigns on self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_names_on_self_are_our_own(path):
    tree = ast.parse(path.read_text())
    known = {
        name for other in FILES if room(other) == room(path) for name in own_privates(ast.parse(other.read_text()))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert node.attr in known, f"{path}:{node.lineno}: {node.attr} is not defined here: Keras's own?"


def rooms_table():
    """The table of CONTRIBUTING.md."""
    lines = ["| room | holds |", "|---|---|"]
    for name, holds in ROOMS.items():
        shown = f"{name}/" if (ROOT / name).is_dir() else f"{name}.py"
        lines.append(f"| `{shown}` | {holds} |")
    return "\n".join(lines)


def test_the_table_in_contributing_is_made_from_the_list():
    assert rooms_table() in (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {room(path) for path in FILES} == set(ROOMS)


def is_private(path):
    return path.name.startswith("_") and not path.name.startswith("__")


def exported(own):
    """What the face of a room exports: what it imports, and what `__all__` has besides, imported when it is used."""
    face = ROOT / own / "__init__.py"
    if not face.exists():
        return set()
    names = set()
    for node in ast.parse(face.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names |= {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
    return names


def private_docstrings(path):
    """(name, lines) of the docstrings of functions and classes that no user can reach."""
    at_the_root = path.parent == ROOT
    known = set().union(*map(exported, ROOMS)) if at_the_root else exported(room(path))
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            private = node.name.startswith("_") or (is_private(path) and node.name not in known)
            inner = [node, *(n for n in ast.walk(node) if isinstance(n, ast.FunctionDef))] if private else []
            for each in dict.fromkeys(inner):
                yield f"{node.name}: {each.name}", (ast.get_docstring(each) or "").splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_private_has_one_line_of_docstring(path):
    long = [f"{name} ({len(lines)} lines)" for name, lines in private_docstrings(path) if len(lines) > 1]
    assert not long


def public_symbols():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        yield module_name, module
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module_name:
                continue
            yield f"{module_name}.{name}", value
            if inspect.isclass(value):
                for method_name, method in vars(value).items():
                    if not method_name.startswith("_") and callable(getattr(method, "__func__", method)):
                        yield f"{module_name}.{name}.{method_name}", method


def test_every_public_symbol_is_documented():
    missing = [name for name, value in public_symbols() if not inspect.getdoc(value)]
    assert not missing


def test_the_public_names_have_an_example():
    names = [name for name in keras_normface.__all__ if not name.startswith("__")]
    values = {name: getattr(keras_normface, name) for name in names}
    without = [n for n, value in values.items() if not inspect.ismodule(value) and ">>>" not in inspect.getdoc(value)]
    assert not without
    assert 20 <= sum(not inspect.ismodule(value) for value in values.values()) <= 32


@pytest.mark.parametrize("name", [name for name in ROOMS if (ROOT / name).is_dir()])
def test_all_of_a_face_is_what_it_exports(name):
    face = importlib.import_module(f"keras_normface.{name}")
    assert set(face.__all__) == {n for n in face.__all__ if hasattr(face, n)}
    assert exported(name) <= set(face.__all__)


@pytest.mark.parametrize("module_name", MODULES)
def test_docstring_examples_run(module_name):
    result = doctest.testmod(importlib.import_module(module_name))
    assert result.failed == 0
