"""Truncated and corrupt files give a protocol or a ValueError, and nothing else."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_normface.protocols import open_protocol
from tests.protocols.test_open_protocol import CLASSES, arguments
from tests.support import protocol_files as files

PIECES = [b"\n", b"\r", b"\t", b" ", b",", b'"', b"#", b"\0", b"\xff", b"0", b"-1", b"nan", b"9" * 30]
PIECES += [b"..", b"/", b"../../etc/passwd"]


@st.composite
def changes(draw):
    """A list of (where in the file, bytes to take away, bytes to put there)."""
    one = st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=6))
    return draw(st.lists(one, min_size=1, max_size=3))


@pytest.mark.parametrize("kind", list(CLASSES))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 99), changed=changes(), cut=st.none() | st.floats(0, 1))
def test_corrupt(tmp_path, kind, which, changed, cut):
    root = tmp_path / "protocol"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    path, options = arguments(kind, root)
    text_files = sorted(file for file in root.rglob("*") if file.suffix in (".txt", ".csv", ".tsv", ".json"))
    file = text_files[which % len(text_files)]
    content = file.read_bytes()
    for share, length, piece in changed:
        at = int(share * len(content))
        content = content[:at] + piece + content[at + length :]
    files.write(file, content if cut is None else content[: int(cut * len(content))])
    message, images = str(root), ()
    try:
        images = open_protocol(kind, path, **options).protocol.images
    except ValueError as error:
        message = str(error)
    assert str(root) in message
    for image in images:
        assert not image.startswith("/")
        assert ".." not in image.split("/")
