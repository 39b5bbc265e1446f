"""What the page for those who come from tensorflow-addons says to write in place of each function runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_normface import losses

PAGE = (Path(__file__).parents[2] / "docs/tensorflow_addons.md").read_text()
REPLACEMENTS = re.findall(r"^\| `((?:\w+\.)?\w+\([^`]*\))` \| `([^`|]*)` \|$", PAGE, re.MULTILINE)
ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
GIVEN = {"x": ROWS, "margin": 0.5, "soft": True, "distance_metric": "angular"}
OF_FUNCTION = {
    "contrastive_loss": {"y": np.array([1, 0, 1]), "d": np.array([0.5, 0.25, 2.0], "float32")},
    "npairs_multilabel_loss": {"y": np.eye(6, 3, dtype="int32"), "similarities": ROWS @ ROWS.T},
}
OTHERS = {"y": np.array([0, 0, 1, 1, 2, 2]), "similarities": ROWS @ ROWS.T}


def test_the_table_is_found():
    assert len(REPLACEMENTS) == 9


@pytest.mark.parametrize(("old", "new"), REPLACEMENTS, ids=[old for old, _ in REPLACEMENTS])
def test_what_stands_for_a_function_of_addons_runs(old, new):
    given = {**GIVEN, **OF_FUNCTION.get(old.split("(")[0], OTHERS)}
    result = np.asarray(eval(new, {**vars(losses), **given}))
    assert np.isfinite(result).all()
    assert result.shape == ((3,) if "contrastive" in old else (6, 6) if "distance(x" in old else ())


def test_a_config_of_addons_becomes_a_loss_whose_value_is_a_mean():
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    namespace = {}
    exec(code, namespace)
    loss = namespace["loss"]
    assert (loss.margin, loss.distance_metric, loss.reduction) == (0.5, "angular", "sum_over_batch_size")
