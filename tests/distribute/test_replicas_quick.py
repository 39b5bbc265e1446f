"""The shortest look at two replicas with XLA; `test_replicas.py` has the rest."""

from tests.support.processes import assert_same, results_of, start_scenarios


def test_two_replicas_with_xla_are_as_plain_keras_on_one(tmp_path):
    models = ("embedding", "by sample")  # 41 rows: a replica has none of the last batch
    start = {name: {"model": name, "rows": 41} for name in models}
    two = start_scenarios(tmp_path, "two", {n: {**o, "xla": True} for n, o in start.items()})
    one = start_scenarios(tmp_path, "one", {n: {**o, "replicas": 1, "plain": True} for n, o in start.items()})
    two, one = results_of(two), results_of(one)
    for name in models:
        assert_same(two[name], one[name], 1e-5)
    assert len(one["by sample"]["kept"]) == 5
