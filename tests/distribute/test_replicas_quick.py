"""The shortest look at two replicas with XLA; `test_replicas.py` has the rest."""

from tests.support.processes import assert_same, results_of, start_scenarios


def test_two_replicas_with_xla_are_as_plain_keras_on_one(tmp_path):
    options = {"model": "embedding", "rows": 41}
    two = start_scenarios(tmp_path, "two", {"training": {**options, "xla": True}})
    one = start_scenarios(tmp_path, "one", {"training": {**options, "replicas": 1, "plain": True}})
    assert_same(results_of(two)["training"], results_of(one)["training"], 1e-5)
