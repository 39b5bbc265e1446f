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
# A module may import from rooms of a LOWER number, and from its own room. Rooms of one number do not meet.
FLOORS = {
    "version": 0,
    "written_beside": 0,
    "sphere": 0,
    "margins": 1,
    "preprocessing": 1,
    "initializers": 1,
    "constraints": 1,
    "layers": 2,
    "backbones": 2,
    "losses": 2,
    "optimizers": 2,
    "fused": 2,
    "heads": 3,
    "data": 3,
    "evaluation": 3,
    "models": 4,
    "prepare": 4,
    "protocols": 4,
    "training": 5,
    "export": 6,
    "recipes": 6,
    "embedding_store": 7,
    "cli": 8,
    "__init__": 9,
}
MAY_IMPORT_TENSORFLOW = {"models", "training", "data", "export", "embedding_store", "cli", "prepare"}
ASKS_FOR_THE_COMPILER = "fused/compiled.py"  # the only one of the core: keras.ops has no way to compile
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_private_of_keras_and_no_assert(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert "keras.src" not in text
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
    for name in keras_normface.__all__:
        if not name.startswith("__"):
            assert ">>>" in inspect.getdoc(getattr(keras_normface, name)), f"{name} has no example"


def test_all_is_what_the_package_exports():
    exported = {n for n, v in vars(keras_normface).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert exported | {"__version__"} == set(keras_normface.__all__)


@pytest.mark.parametrize("module_name", MODULES)
def test_docstring_examples_run(module_name):
    result = doctest.testmod(importlib.import_module(module_name))
    assert result.failed == 0
