"""docs/million.md: its code for TensorFlow runs and prints what the page says; the example's command does, too."""

import os
import re
import subprocess
import sys

import pytest

from tests.support import markdown
from tests.support.markdown import ROOT

TEXT = markdown.read("docs/million.md")
BLOCKS = markdown.blocks("docs/million.md")


def test_the_code_runs_and_the_cost_of_a_replica_is_what_the_page_says(capsys):
    namespace = {}
    for number, block in enumerate(BLOCKS):
        capsys.readouterr()
        exec(compile(block, f"million.md, block {number}", "exec"), namespace)
    assert "jit_compile=False" in BLOCKS[-1]
    assert f"```\n{capsys.readouterr().out}```" in TEXT


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--sample-rate", "0.1")], ids=["all", "sampled"])
def test_the_example_learns(options):
    command = [sys.executable, ROOT / "examples/million_identities.py", "--identities", "20000", "--steps", "6"]
    command += ["--dim", "64", "--people", "64", "--batch-size", "64", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [float(number) for number in re.findall(r"loss ([\d.]+)", done.stdout)]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert re.search(r"20000 identities; most memory that this process held: \d\.\d GiB", done.stdout)
