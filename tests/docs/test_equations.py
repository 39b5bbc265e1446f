"""docs/equations.md: every name is public, and cites the paper and the place that the table gives."""

import importlib
import inspect
import re

import pytest

from tests.support import markdown

ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in markdown.read("docs/equations.md").splitlines()
    if line.startswith("| ") and "`" in line and not line.startswith("| paper")
]
FORMULAS = [row for row in ROWS if len(row) == 4]
NAMES = sorted({name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[-1])})


def resolved(name):
    room, attribute = name.rsplit(".", 1)
    return getattr(importlib.import_module(f"keras_normface.{room}"), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_public_and_documented(name):
    room, attribute = name.rsplit(".", 1)
    module = importlib.import_module(f"keras_normface.{room}")
    assert attribute in getattr(module, "__all__", vars(module))
    assert ">>>" in inspect.getdoc(resolved(name))


@pytest.mark.parametrize("row", FORMULAS, ids=lambda row: f"{row[0].split()[0]} {row[1]} {row[3]}")
def test_the_docstring_cites_the_equation(row):
    paper, place, _, names = row
    (number,) = re.findall(r"arXiv ([\d.]+)", paper)
    for name in re.findall(r"`([\w.]+)`", names):
        text = inspect.getdoc(resolved(name))
        assert number in text, name
        assert place in " ".join(text.split()), f"{name} does not cite {place}"


def test_the_papers_are_all_there():
    spheres, others = {"NormFace", "L2-softmax", "AM-Softmax", "SphereFace-R"}, {"FitNets", "RKD", "BCT"}
    later = {"AdaFace", "Circle loss", "CurricularFace", "ElasticFace", "MV-Softmax", "MagFace", "Partial FC"}
    assert {row[0].split(" (")[0] for row in FORMULAS} == spheres | later | others
    assert {"Eq. 6", "Eq. 10", "Eq. 11"} <= {row[1] for row in FORMULAS}
