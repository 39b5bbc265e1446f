"""Agents split over eight devices: the same training as on one, and no device with all classes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_normface import MarginSoftmaxHead
from keras_normface.heads import SoftmaxHead, class_sharding

ROOT = Path(__file__).parents[2]
CASES = ("auto", "auto, batch in two", "learnable v2, smoothed", "plain, contrastive", "triplet, softmax")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
    }
    command = [sys.executable, ROOT / "tests/support/eight_devices_script.py", tmp_path_factory.mktemp("saved")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_eight_devices_train_as_one_does(results, case):
    found = results[case]
    assert found["one"].keys() == found["many"].keys()
    for name, one in found["one"].items():
        np.testing.assert_allclose(found["many"][name], one, rtol=1e-5, err_msg=name)
    assert len(found["one"]["loss"]) == 10
    assert found["one"]["loss"][-1] < 0.5 * found["one"]["loss"][0]
    assert found["weights"] < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_no_device_holds_all_classes(results, case):
    found = results[case]
    shares = {"auto": 10_240 // 8, "auto, batch in two": 10_240 // 4}
    assert found["held"] == [[shares.get(case, 320 // 8), 24]] * len(found["held"])
    assert len(found["held"]) == (4 if case in CASES[-2:] else 2)  # agents and momentum of each head
    assert found["whole"] == []
    assert "all-gather" not in found["collectives"]
    assert "all-to-all" not in found["collectives"]


def test_devices_exchange_sums_and_the_gradient_of_the_embeddings(results):
    for case in ("auto", "learnable v2, smoothed"):
        assert results[case]["collectives"] == {"all-reduce": ["48", "48,24"]}


def test_groups_of_the_batch_also_add_up_their_shares_of_the_agents_gradient(results):
    shapes = set(results["auto, batch in two"]["collectives"]["all-reduce"])
    assert {"24", "24,24", "2560,24"} <= shapes  # half of the batch, and a quarter of the agents


def test_the_check_sees_streaming_gather_all_agents(results):
    found = results["stream"]
    assert found["held"] == [[1280, 24]] * 2
    assert "10240,24" in found["whole"]
    assert found["collectives"]["all-gather"] == ["10240,24"]
    assert len(results["refused"]) == 2
    assert all('must be "auto", "buffer" or False' in said for said in results["refused"])


def test_auto_never_streams_split_classes_and_costs_are_those_of_a_device(results):
    assert results["modes"] == [["buffer", "buffer", False], 4 * (2 * 10_240 // 8) * 2]


def test_the_check_sees_agents_that_are_not_split(results):
    found = results["replicated"]
    assert found["held"] == [[320, 24]] * 2
    assert {"320,24", "48,320"} <= set(found["whole"])


def test_the_code_of_the_documentation_splits_agents(results):
    assert results["page"] == [[40, 20]] * 2


def test_weights_and_models_are_saved_and_loaded(results):
    found = results["saved"]
    assert found["before"] > 0.1
    assert found["same"]
    assert found["held"] == [[[40, 24], [40, 24]]] * 2
    assert found["next_losses"][0] == pytest.approx(found["next_losses"][1], rel=1e-6)


def test_large_agents_start_split_with_the_values_of_one_device(results):
    assert results["large"]["held"] == [2048, 512]
    assert results["large"]["difference"] < 1e-6


def test_bias_and_agents_of_the_named_heads_are_split():
    heads = [SoftmaxHead(6, name="first"), MarginSoftmaxHead(6, name="a.b")]
    layouts = class_sharding(heads, devices=["cpu:0"])
    for path in ("first/kernel", "model/first/kernel", "model/a.b/kernel"):
        assert layouts.get_tensor_layout(path).axes == ("classes", None)
    assert layouts.get_tensor_layout("model/first/bias").axes == ("classes",)
    for path in ("model/not_first/kernel", "model/axb/kernel", "model/first/scale/scale", "dense/bias"):
        assert layouts.get_tensor_layout(path) is None


def test_mistakes_are_named():
    eight = [f"cpu:{number}" for number in range(8)]
    with pytest.raises(ValueError, match=r"give the head units=104.*units=100"):
        class_sharding(MarginSoftmaxHead(100), eight)
    class_sharding(MarginSoftmaxHead(100), eight, batch_groups=2)
    for groups in (0, 3, 2.0):
        with pytest.raises(ValueError, match=f"batch_groups.*Received: batch_groups={groups}"):
            class_sharding(MarginSoftmaxHead(96), eight, batch_groups=groups)
    with pytest.raises(ValueError, match="0 devices"):
        class_sharding(MarginSoftmaxHead(96), [])
    with pytest.raises(TypeError, match=r"Head or a list of them.*Dense"):
        class_sharding([keras.layers.Dense(8)], eight)
    built = MarginSoftmaxHead(96)
    built.build((None, 4))
    with pytest.raises(ValueError, match="built already"):
        class_sharding(built, eight)
