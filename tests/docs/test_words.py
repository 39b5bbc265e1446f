"""One word for one thing: terms that the package gave up come back neither in code, messages nor pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIVEN_UP = {
    r"told by": "inferred from",
    r"garbled": "corrupt",
    r"left out": "excluded, omitted",
    r"what came": "received",
    r"goes on where": "resumes",
    r"whole numbers? (of|from|in)": "integer",
    r"strangers": "non-mated probes",
    r"thinned": "downsampled",
    r"written_beside|sidecar": "atomic_write, metadata",
    r"fuse_mirror|margin_radians": "flip, margin",
    r"passed over": "skipped",
}
FILES = sorted(
    path
    for pattern in ("keras_normface/**/*.py", "examples/*.py", "benchmarks/*.py", "docs/*.md", "*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("term", GIVEN_UP)
def test_a_term_that_was_given_up_is_used_nowhere(term):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(term, line, re.IGNORECASE)
    ]
    assert len(FILES) > 100
    assert not found, f"write {GIVEN_UP[term]!r}: " + "\n".join(found)
