"""One replica against two, XLA against none, plain Keras against ours."""

import numpy as np
import pytest

from tests.support.processes import assert_same, results_of, start_scenarios

pytestmark = pytest.mark.slow
MATRIX = {
    f"{model} {policy}": {"model": model, "policy": policy, "rate": 0.02 if model == "joint" else 0.05}
    for model, policy in [
        ("softmax", "float32"),
        ("softmax", "mixed_bfloat16"),
        ("joint", "float32"),
        ("embedding", "float32"),
    ]
}
SCORES = {"validation": True, "evaluate": True, "predict": True}
WITH_XLA = {
    "last batch": {"rows": 13, "epochs": 2, "regularizer": "l2", "metrics": True},
    "last batch of one": {"rows": 9, "epochs": 2, "model": "embedding", "regularizer": "l2"},
    "distilled": {"model": "distilled", "rows": 13, "epochs": 2},
    "accumulate": {"optimizer": "accumulate"},
    "scaled": {"optimizer": "scaled"},
    "steps per execution": {"steps_per_execution": 7, "rows": 80, "epochs": 2},
    "fit in the scope": {"optimizer": "accumulate", "rows": 24, **SCORES},
    "on batch": {"data": "on_batch", "rows": 24, **SCORES},
    "fused head": {"model": "embedding", "fused": "stream", "rows": 24},
}
BACKBONES = {name: {"model": name, "rows": 24} for name in ("spherefacenet", "lightcnn")}
BACKBONES["under a fused head"] = {"model": "embedding", "fused": "buffer", "rows": 24}
STRINGS = {"model": "strings", "rows": 16}
SYNCHRONIZED = {"model": "synchronized", "rows": 16}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenarios")
    every = {f"{name}, {xla}": {**o, "xla": xla} for name, o in MATRIX.items() for xla in (False, True)}
    every |= {f"strings, {xla}": {**STRINGS, "xla": xla} for xla in (False, True)}
    one = {f"{name}, plain": {**o, "plain": True} for name, o in {**MATRIX, **WITH_XLA, **BACKBONES}.items()}
    two = {f"{name}, True": {**o, "xla": True, "inside": "scope" in name} for name, o in WITH_XLA.items()}
    two |= BACKBONES
    two["synchronized, True"] = {**SYNCHRONIZED, "xla": True}
    one = {name: {**options, "replicas": 1} for name, options in {**every, **one}.items()}
    started = {
        1: start_scenarios(directory, "one", one),
        2: start_scenarios(directory, "two", {**every, **two}),
    }
    return {replicas: results_of(process) for replicas, process in started.items()}


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("xla", [False, True])
def test_twenty_steps_are_those_of_plain_keras_on_one_replica(results, name, replicas, xla):
    ours, plain = results[replicas][f"{name}, {xla}"], results[1][f"{name}, plain"]
    assert len(ours["means"]) == 20
    assert_same(ours, plain, 1e-5 if "float32" in name else 2e-2)


@pytest.mark.parametrize("name", WITH_XLA)
def test_two_replicas_with_xla_are_as_one(results, name):
    assert_same(results[2][f"{name}, True"], results[1][f"{name}, plain"], 1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_two_replicas_train_a_backbone_as_one(results, name):
    ours, plain = results[2][name], results[1][f"{name}, plain"]
    assert len(set(ours["means"])) == 3
    assert_same(ours, plain, 1e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_xla_really_runs(results, replicas):
    assert "tf2xla" in results[replicas]["strings, True"]["error"]
    assert np.isfinite(results[replicas]["strings, False"]["means"]).all()


def test_synchronized_batch_norm_is_refused(results):
    error = results[2]["synchronized, True"]["error"]
    assert error.startswith("ValueError: `jit_compile=True`")
    assert "synchronized=False" in error
    assert "batch_normalization" in error
