"""docs/backbones.md: its table counts what the functions build."""

import re

import pytest

from keras_normface import backbones
from tests.support import markdown

TEXT = markdown.read("docs/backbones.md")
ROWS = re.findall(r"^\| `(.*?)` \| (.*?) \| (\d+) \| ([\d ]+) \|$", TEXT, flags=re.MULTILINE)
QUICK = {"SphereFaceNet(4)", "LightCNN(9)", "ResNet27()", "DlibResNet()"}


def test_every_function_is_in_the_table():
    functions = {"SphereFaceNet", "ResNet27", "LightCNN", "IResNet", "MobileFaceNet", "DlibResNet"}
    assert {call.split("(")[0] for call, *_ in ROWS} == functions


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row[0], marks=[] if row[0] in QUICK else pytest.mark.slow) for row in ROWS]
)
def test_the_table_is_right(row):
    call, input_size, embedding, parameters = row
    model = eval(call, vars(backbones))
    count = sum(weight.numpy().size for weight in model.weights if "moving" not in weight.name)
    assert count == int(parameters.replace(" ", ""))
    assert "×".join(map(str, model.input_shape[1:])) == input_size
    assert model.output_shape[-1] == int(embedding)
