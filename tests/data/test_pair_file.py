"""Pair files: what InsightFace's tools write in all protocols, and pickles that want to do harm."""

import builtins
import functools
import io
import operator
import os
import pickle
import pickletools
import shutil
import struct
import subprocess
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_normface.data import PairFileError, UnsafePickleError, read_pair_file
from keras_normface.data._pickle import BrokenPickleError, RestrictedUnpickler, restricted_loads, scan_pickle

PROTOCOLS = range(6)


def encoded(seed, kind):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


FACES = [encoded(seed, kind) for seed, kind in enumerate(["JPEG", "PNG", "JPEG", "JPEG", "PNG", "JPEG"])]
SAME = [True, False, True]


def read(tmp_path, content):
    path = tmp_path / "pairs.bin"
    path.write_bytes(content)
    return read_pair_file(path)


def as_arrays(writable):
    arrays = [np.frombuffer(face, np.uint8) for face in FACES]
    return [array.copy() if writable else array for array in arrays]


def with_numpy_1_names(content):
    """Rename NumPy's modules in a pickle; the lengths of names and frames follow."""
    for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = name.replace(b"_core", b"core")
        for before, after in [
            (b"c" + name, b"c" + old),
            (b"\x8c" + bytes([len(name)]) + name, b"\x8c" + bytes([len(old)]) + old),
        ]:
            shorter = content.count(before)
            content = content.replace(before, after)
            if shorter and content[2:3] == b"\x95":
                length = struct.unpack("<Q", content[3:11])[0] - shorter
                content = content[:3] + struct.pack("<Q", length) + content[11:]
    return content


def read_as_faces(directory, whole, protocol):
    """Pickle a pair file, under both names of NumPy's modules, and read it as the faces of this test."""
    content = pickle.dumps(whole, protocol)
    for variant in {content, with_numpy_1_names(content)}:
        pairs = read(directory, variant)
        assert pairs.images == FACES
        assert pairs.same.dtype == bool
        assert pairs.same.tolist() == SAME
    return pairs


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("flags", [SAME, [np.bool_(flag) for flag in SAME]], ids=["bool", "numpy"])
@pytest.mark.parametrize("items", [FACES, as_arrays(True), as_arrays(False)], ids=["bytes", "array", "frozen"])
def test_every_protocol(tmp_path, protocol, flags, items):
    for whole in [(items, flags), [items, flags]]:
        pairs = read_as_faces(tmp_path, whole, protocol)
        assert len(pairs) == 3
        assert pairs.path == tmp_path / "pairs.bin"
    assert Image.open(io.BytesIO(pairs.images[1])).size == (6, 8)


def as_column(data):
    return np.frombuffer(data, np.uint8)[:, None]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "flags",
    [
        [1, 0, 1],
        (True, False, True),
        np.array(SAME),
        np.array([1, 0, 1], "uint8"),
        np.array([1, 0, 1]),
        np.array([[1], [0], [1]], ">i2"),
        [np.int64(1), np.uint8(0), np.array([1], ">i4")[0]],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "arranged",
    [as_column, lambda data: as_column(data).T, lambda data: as_column(data).copy("F")],
    ids=["column", "row", "copy"],
)
def test_shapes_flags_and_tuples_that_packers_write(tmp_path, protocol, flags, arranged):
    items = [arranged(face) for face in FACES]
    for whole in [(items, flags), [tuple(items), flags]]:
        read_as_faces(tmp_path, whole, protocol)


def test_the_renaming_of_these_tests_renames():
    arrays = as_arrays(True)
    for protocol in PROTOCOLS:
        renamed = with_numpy_1_names(pickle.dumps(arrays, protocol))
        assert b"numpy.core." in renamed
        assert b"_core." not in renamed


def python_2_string(data):
    return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data


def test_strings_as_python_2_wrote_them_in_protocol_2(tmp_path):
    images = b"".join(python_2_string(face) + b"q" + bytes([i + 2]) for i, face in enumerate(FACES))
    content = b"\x80\x02]q\x01(" + images + b"e]q\x08(\x88\x89\x88e\x86q\x09."
    pairs = read(tmp_path, content)
    assert pairs.images == FACES
    assert pairs.same.tolist() == SAME


def test_strings_as_python_2_wrote_them_in_protocol_0(tmp_path):
    def literal(data):
        return b"S'" + b"".join(b"\\x%02x" % byte for byte in data) + b"'\n"

    images = b"".join(literal(face) + b"p%d\na" % (i + 3) for i, face in enumerate(FACES))
    content = b"((lp1\n" + images + b"(lp9\nI01\naI00\naI01\natp10\n."
    assert read(tmp_path, content).images == FACES


def test_arrays_as_python_2_wrote_them(tmp_path):
    def array(face):
        begin = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        return begin + b"(K\x01\x8a\x03" + struct.pack("<I", len(face))[:3] + b"\x85" + dtype + b"\x89"

    content = b"\x80\x02](" + b"".join(array(face) + python_2_string(face) + b"tb" for face in FACES)
    scalar = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02b1K\x00K\x01\x87RU\x01%c\x86R"
    content += b"e](" + b"".join(scalar % flag for flag in SAME) + b"e\x86."
    pairs = read(tmp_path, content)
    assert pairs.images == FACES
    assert pairs.same.tolist() == SAME


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((FACES, SAME[:2]), "6 images and 2 flags"),
        ((FACES[:5], SAME), "5 images and 3 flags"),
        (([], []), "no pairs"),
        ((FACES, SAME, SAME), "two lists"),
        ((FACES, b"abc"), "two lists"),
        ((np.zeros(6, "uint8"), SAME), "two lists"),
        (FACES, "two lists"),
        (b"image", "two lists"),
        ((FACES, [True, 2, False]), "flag 1 must be a bool, 0 or 1, but is 2"),
        ((FACES, [True, False, -1]), "flag 2 .* is -1"),
        ((FACES, np.array([1, 0, 256])), "flag 2 .* is 256"),
        ((FACES, np.array([1, 0])), "6 images and 2 flags"),
        ((FACES, [True, False, None]), "flag 2 .* NoneType"),
        ((FACES, [0.5, False, True]), "flag 0 .* float"),
        ((["text", *FACES[1:]], SAME), "image 0 .* str"),
        (([*FACES[:5], [1]], SAME), "image 5 .* list"),
        (([*FACES[:2], b"", *FACES[3:]], SAME), "image 2 is empty"),
        (([np.zeros(0, "uint8"), *FACES[1:]], SAME), "image 0 is empty"),
        (([*FACES[:5], np.ones(3, bool)], SAME), "image 5 .* bool"),
        (([np.ones(3, "float32"), *FACES[1:]], SAME), "'f4'; only bools and integers"),
        (([np.ones((3, 2), "uint8"), *FACES[1:]], SAME), "one dimension"),
        (([np.ones((3, 1, 1), "uint8"), *FACES[1:]], SAME), "one dimension"),
        (([np.ones(3, "int8"), *FACES[1:]], SAME), "image 0 .* int8"),
        (([np.ones(2, [("a", "u1")]), *FACES[1:]], SAME), "dictionary"),
        ((FACES, {"same": SAME}), "dictionary"),
        ((FACES, {True, False}), "set|'.*set'"),
    ],
)
def test_what_is_no_pair_file(tmp_path, protocol, content, message):
    with pytest.raises((PairFileError, UnsafePickleError), match=message) as caught:
        read(tmp_path, pickle.dumps(content, protocol))
    assert "pairs.bin" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\xff\xd8\xff\xe0", b"\x80\x04.", b".", b"(.", b"N.", b"\x80\x09N."]
)
def test_what_is_no_pickle(tmp_path, content):
    with pytest.raises(PairFileError):
        read(tmp_path, content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_and_anything_appended_is_refused(tmp_path, protocol):
    content = pickle.dumps(([b"image 0", np.frombuffer(b"image 1", "uint8")], [np.True_]), protocol)
    read(tmp_path, content)
    for end in range(len(content)):
        with pytest.raises(BrokenPickleError):
            restricted_loads(content[:end])
    with pytest.raises(PairFileError, match="1 bytes follow"):
        read(tmp_path, content + b"\n")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_pair_file(tmp_path / "none.bin")


class Calls:
    """Pickled, a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class State:
    """Pickled, a list with attributes that are set while it is read."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return (io.StringIO, (), self.state)


def harmful(name, made):
    source = f"open({str(made)!r}, 'w')"
    return {
        "system": Calls(os.system, f"touch {made}"),
        "eval": Calls(eval, source),
        "exec": Calls(exec, source),
        "open": Calls(open, str(made), "w"),
        "subprocess": Calls(subprocess.Popen, ["touch", str(made)]),
        "rmtree": Calls(shutil.rmtree, str(made.parent / "kept")),
        "import": Calls(builtins.__import__, "antigravity"),
        "getattr": Calls(getattr, Calls(builtins.__import__, "os"), "system"),
        "partial": functools.partial(os.system, f"touch {made}"),
        "methodcaller": operator.methodcaller("touch"),
        "numpy.load": Calls(np.load, str(made)),
        "fromfile": Calls(np.fromfile, str(made)),
        "copyreg": Calls(__import__("copyreg").add_extension, "os", "system", 1),
        "state": State(("", 0, {"a": Calls(eval, source)})),
        "nested": Calls(Calls, Calls(eval, source)),
        "bytes": Calls(bytes, Calls(eval, source)),
        "type": Calls(type, "Made", (), ()),
        "class": np.random.default_rng,
        "object array": np.array([b"image", b"image"], dtype=object),
        "loads": Calls(pickle.loads, pickle.dumps(Calls(eval, source))),
        "set": frozenset,
        "bytearray": Calls(bytearray, 10**12),
    }[name]


NAMED = {
    "system": r"(posix|nt)\.system",
    "eval": r"\.eval",
    "exec": r"\.exec",
    "open": r"\.open",
    "subprocess": r"(subprocess|commands)\.Popen",
    "rmtree": r"shutil\.rmtree",
    "import": r"\.__import__",
    "getattr": r"\.getattr",
    "partial": r"functools\.partial",
    "numpy.load": r"numpy.*load",
    "fromfile": r"fromfile",
    "copyreg": r"add_extension",
    "state": r"io\.StringIO",
    "nested": r"Calls",
    "type": r"\.type",
    "class": r"default_rng",
    "object array": r"'O8'|NumPy type 'O",
    "loads": r"pickle\.loads",
    "set": r"\.frozenset",
    "bytes": r"(builtin__|builtins)\.(eval|bytes)",
    "bytearray": r"\.bytearray",
    "methodcaller": r"operator\.methodcaller",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", sorted(NAMED))
def test_harm_is_refused_by_name_and_nothing_runs(tmp_path, protocol, name):
    made, kept = tmp_path / "made", tmp_path / "kept"
    kept.mkdir()
    whole = ([*FACES[:5], harmful(name, made)], SAME)
    content = pickle.dumps(whole, protocol)
    with pytest.raises(UnsafePickleError, match=NAMED[name]):
        read(tmp_path, content)
    with pytest.raises((UnsafePickleError, BrokenPickleError, TypeError)):  # without the scan before it
        RestrictedUnpickler(content).load()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "pairs.bin"]


def test_the_harm_of_these_tests_is_real(tmp_path):
    for name in ("system", "eval"):
        content = pickle.dumps(harmful(name, tmp_path / name))
        pickle.loads(content)
        assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"(S'touch made'\nios\nsystem\n.", "INST"),
        (b"(cnumpy\ndtype\nS'u1'\no.", "OBJ"),
        (b"cos\nsystem\n(S'touch made'\ntR.", r"os\.system"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "NEWOBJ"),
        (b"\x80\x04cnumpy\ndtype\n))\x92.", "NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\x00.", "EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pos.system\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x05N\x98.", "READONLY_BUFFER"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"os\.system"),
        (b"\x80\x04\x8c\x0bnumpy._core\x8c\x17multiarray._reconstruct\x93.", "multiarray._reconstruct"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "ndarray.__class__"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x86h\x00h\x01\x93\x86.", r"os\.system"),
        (b"\x80\x04(\x8c\x05numpy\x8c\x02os\x94\x8c\x06system\x94\x86h\x00h\x01\x93t.", r"os\.system"),
        (b"c__builtin__\nbytes.fromhex\n.", "fromhex"),
    ],
)
def test_instructions_written_by_hand(content, message):
    with pytest.raises((UnsafePickleError, BrokenPickleError), match=message):
        restricted_loads(content)


DTYPE = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    "content",
    [
        ARRAY + b"(I1\n(I1000000000000\nt" + DTYPE + b"I00\nS'abc'\ntb.",
        ARRAY + b"(I1\n(I-3\nt" + DTYPE + b"I00\nS'abc'\ntb.",
        ARRAY + b"(I1\n(I1000000\nI1000000\nt" + DTYPE + b"I00\nS'abc'\ntb.",
        ARRAY + b"(I1\n(I3\ntS'u1'\nI00\nS'abc'\ntb.",
        ARRAY + b"(I1\n(I3\nt" + DTYPE + b"I00\n(lS'abc'\natb.",
        ARRAY + b"S'abc'\nb.",
        DTYPE + b"S'abc'\nb.",
        DTYPE + b"(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb.",
        DTYPE + b"(I3\nS'|'\nN(S'a'\ntNI-1\nI-1\nI0\ntb.",
        b"cnumpy\ndtype\nS'abc'\nb.",
        b"cnumpy\nndarray\n(I1000000000000\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'b'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(" + DTYPE + b"S'abc'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(S'b1'\nS'a'\ntR.",
        b"cnumpy.core.numeric\n_frombuffer\n(S'abc'\n" + DTYPE + b"(I4\ntS'C'\ntR.",
        b"cnumpy.core.numeric\n_frombuffer\n(I1000000000\n" + DTYPE + b"(I3\ntS'C'\ntR.",
        b"c__builtin__\nbytes\n(I1000000000000\ntR.",
        b"c_codecs\nencode\n(Vabc\nVutf-16\ntR.",
        b"c_codecs\nencode\n(S'abc'\nVlatin1\ntR.",
        b"c_codecs\nencode\n(V\\u1234\nVlatin1\ntR.",
        b"c_codecs\nencode\n(Vabc\nVabc\ntb.",
    ],
)
def test_stand_ins_refuse_what_does_not_fit(content):
    try:
        result = restricted_loads(content)
    except BrokenPickleError:
        return
    pytest.fail(f"read as {result!r}")


def claim(opcode, length):
    return b"\x80\x04" + opcode + length.to_bytes(8 if opcode in (b"\x8e", b"\x8d", b"\x96", b"\x95") else 4, "little")


@pytest.mark.parametrize(
    "content",
    [
        *[claim(opcode, 2**40) + b"abcdefgh." for opcode in (b"\x8e", b"\x8d", b"\x96", b"\x95")],
        *[claim(opcode, 2**31 - 1) + b"abcdefgh." for opcode in (b"B", b"X", b"T", b"\x8b")],
        b"N" + claim(b"r", 2**31)[2:] + b".",
        b"Np2147483647\n.",
        b"Np" + b"9" * 1000 + b"\n.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"(" + b"l" * 100_000 + b".",
        b"N" + b"\x85" * 100_000 + b".",
        b"N" + b"\x94" * 100_000 + b".",
        # one string of 10 000 characters, encoded 1 000 times: 10 MB out of 20 KB
        b"(c_codecs\nencode\np0\n0V"[:-2] + b"V" + b"a" * 10_000 + b"\np1\n" + b"g0\n(g1\nVlatin1\ntR" * 1_000 + b"t.",
    ],
)
def test_claims_larger_than_the_file_take_neither_memory_nor_time(content):
    tracemalloc.start()
    before = time.perf_counter()
    try:
        with pytest.raises(BrokenPickleError):
            restricted_loads(content)
        assert tracemalloc.get_traced_memory()[1] < 200_000 + 20 * len(content)
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - before < 2


@pytest.mark.parametrize("code", [b"(", b"N", b")", b"0", b"]", b"(t", b"K\x00", b"\x88N", b"h\x00", b"\x88"], ids=repr)
def test_five_megabytes_of_one_instruction_take_little_time(code):
    content = code * (5_000_000 // len(code))
    before = time.process_time()
    with pytest.raises(BrokenPickleError, match=r"instruction|memo places|end is missing"):
        restricted_loads(content)
    assert time.process_time() - before < 2


def test_the_same_bytes_named_again_and_again_are_not_copied_again_and_again():
    data = b"\x96" + struct.pack("<Q", 10_000) + b"a" * 10_000
    buffer = b"cnumpy.core.numeric\n_frombuffer\nq\x00"
    call = b"h\x00(h\x01" + DTYPE + b"M" + struct.pack("<H", 10_000) + b"\x85U\x01CtR"
    head = b"\x80\x05(" + buffer + data + b"q\x01"
    assert len(restricted_loads(head + call + b"t.")) == 3
    with pytest.raises(BrokenPickleError, match="more bytes than it has"):
        restricted_loads(head + call * 100 + b"t.")


@pytest.mark.parametrize("op", pickletools.opcodes, ids=lambda op: op.name)
def test_the_scan_agrees_with_pickletools_on_where_each_instruction_ends(op):
    argument = {
        None: b"",
        "decimalnl_short": b"1\n",
        "decimalnl_long": b"1L\n",
        "stringnl": b"'a'\n",
        "stringnl_noescape_pair": b"numpy\ndtype\n",
        "unicodestringnl": b"a\n",
        "floatnl": b"1.5\n",
        "stringnl_noescape": b"a\n",
    }.get(op.arg and op.arg.name)
    if argument is None:  # little-endian: a length of 1 (or a number), and one byte if it was a length
        width = op.arg.n if op.arg.n > 0 else {-2: 1, -3: 4, -4: 4, -5: 8}[op.arg.n]
        argument = b"\x01" + bytes(width - 1) + (b"a" if op.arg.n < 0 else b"")
    content = (b"" if op.name == "STOP" else op.code.encode("latin-1") + argument) + b"."
    padded = content[:-1] + b"N." if op.name == "FRAME" else content
    assert next(o.name for o, _, _ in pickletools.genops(padded)) == op.name
    try:
        scan_pickle(padded)
    except (UnsafePickleError, BrokenPickleError) as error:
        refused = str(error)
    else:
        refused = ""
    harmless = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING"}
    harmless |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "NONE", "NEWTRUE", "NEWFALSE", "UNICODE"}
    harmless |= {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "FLOAT", "BINFLOAT", "EMPTY_LIST", "APPEND"}
    harmless |= {"APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "MARK", "GET", "BINGET"}
    harmless |= {"LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "REDUCE"}
    harmless |= {"BUILD", "PROTO", "STOP", "FRAME"}
    assert (not refused) == (op.name in harmless), refused


VALID = [
    pickle.dumps(([b"image 0", np.frombuffer(b"image 1", "uint8"), b"2", b"3"], [np.True_, False]), protocol)
    for protocol in PROTOCOLS
]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(min_size=1, max_size=4)), max_size=6),
)
def test_mutations_give_pairs_or_the_documented_errors(tmp_path_factory, content, changes):
    for position, removed, put in changes:
        position %= len(content)
        content = content[:position] + put + content[position + removed :]
    path = tmp_path_factory.getbasetemp() / "mutated.bin"
    path.write_bytes(content)
    try:
        pairs = read_pair_file(path)
    except (PairFileError, UnsafePickleError):
        return
    assert len(pairs.images) == 2 * len(pairs.same)
    assert all(type(image) is bytes and image for image in pairs.images)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*b"(.NR]aebt)l\x85\x86\x87\x88\x89\x93\x94Kh012qCU", *range(6)]), max_size=30))
def test_random_programs_end(program):
    with_end = bytes(program).replace(b".", b"") + b"."
    try:
        restricted_loads(with_end)
    except (BrokenPickleError, UnsafePickleError):
        return
