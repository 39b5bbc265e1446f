"""The parsers of the package: a valid file of each, what it is read as, and mutants that know its structure."""

import contextlib
import hashlib
import importlib.util
import io
import json
import pickle
import pickletools
import re
import sqlite3
import struct
import tempfile
import zipfile
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_normface import recipes
from keras_normface._image_headers import stated_pixels
from keras_normface._threshold import CalibratedThreshold
from keras_normface.backbones import ConversionError
from keras_normface.callbacks import PairEvaluation
from keras_normface.cli._run_directory import RUN_FORMAT, parsed_run
from keras_normface.data import (
    ImageList,
    PairFileError,
    RecordError,
    RecordIO,
    TFRecordShards,
    UnsafePickleError,
    decode_image,
    read_pair_file,
)
from keras_normface.data.shards import (
    MetadataError,
    write_index,
    write_metadata,
    write_shard,
)
from keras_normface.gallery import Gallery
from keras_normface.inference import CardFigure, ModelCard, load_embeddings, read_card, save_embeddings
from keras_normface.preprocessing import Preprocessing, preprocessing_from_json
from keras_normface.protocols import ProtocolFileError, open_protocol, read_blufr
from keras_normface.protocols.megaface import read_megaface_features, write_megaface_features
from keras_normface.training._checkpoint import CorruptCheckpointError, read_checkpoint, write_checkpoint
from tests.fuzz.lane import Parser
from tests.fuzz.mutants import Field, mutate, mutate_json, mutate_text, places_of, with_bytes, words
from tests.protocols.test_open_protocol import arguments
from tests.support import faces
from tests.support import protocol_files as files

TEXT = mutate_text
BOMB = bytes(20 << 20)


def of_words(content, pick):
    """Mutants of a file of 32-bit words."""
    return mutate(content, words(content), pick)


def record_io(name, contents, index, known):
    def write(root):
        faces.write_records(root / "train", contents, index)

    def read(root):
        reader = RecordIO(root / "train.rec")
        return [reader.sample(number) for number in range(len(reader))]

    mutants = {"train.rec": of_words, **({"train.idx": TEXT} if index else {})}
    return Parser(name, write, read, known, mutants, (RecordError,), r"Line 1 of|no record at byte 0|holds no records")


IMAGES = [faces.payload(float(label), b"image" * (label + 1)) for label in (0, 1, 1)]
SPLIT = faces.payload(0.0, b"abcd" + faces.MAGIC_BYTES * 2 + b"x")
IDENTITIES = [faces.payload([4.0, 6.0]), *IMAGES, faces.payload([1.0, 2.0]), faces.payload([2.0, 4.0])]
READ = [(b"image", 0), (b"imageimage", 1), (b"imageimage", 1)]


def of_pickle(content, pick):
    """Mutants of a pickle: other instructions, instructions twice or left out, other arguments."""
    if pick.random() < 0.3:
        return mutate(content, [], pick)
    places = [(code, at) for code, _, at in pickletools.genops(content)]
    number = pick.randrange(len(places))
    code, at = places[number]
    end = places[number + 1][1] if number + 1 < len(places) else len(content)
    kind = pick.randrange(5)
    if kind == 0:
        new = pick.choice(pickletools.opcodes).code.encode("latin-1")
        return content[:at] + new + content[at + 1 :]
    if kind == 1:
        return content[:at] + content[at:end] * pick.choice((2, 2, 100)) + content[end:]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3 and code.arg is not None and code.arg.n in (pickletools.TAKEN_FROM_ARGUMENT4, 4):
        return mutate(content, [Field(at + 1, 4)], pick)
    one, other = pick.choice(places)[1], pick.choice(places)[1]
    return content[:at] + content[min(one, other) : max(one, other)] + content[at:]


def pairs_bin(protocol):
    arrays = [b"image 0", np.frombuffer(b"image 1", "uint8"), np.frombuffer(b"2", "uint8")[:, None], b"3"]

    def write(root):
        (root / "lfw.bin").write_bytes(pickle.dumps((arrays, [np.True_, 0]), protocol))

    def read(root):
        pairs = read_pair_file(root / "lfw.bin")
        return pairs.images, pairs.same.tolist()

    known = ([b"image 0", b"image 1", b"2", b"3"], [True, False])
    header = r"at byte [0-3]$|its end is missing"
    mutants = {"lfw.bin": of_pickle}
    return Parser(f"pairs_bin_{protocol}", write, read, known, mutants, (PairFileError, UnsafePickleError), header)


def image_list(name, text, known):
    def write(root):
        (root / "images.lst").write_text(text)

    def read(root):
        reader = ImageList(root / "images.lst")
        return [(reader.name(k), int(reader.labels[k])) for k in range(len(reader))]

    header = "Line 1 of|must name images"
    return Parser(name, write, read, known, {"images.lst": TEXT}, (ValueError,), header)


LISTED = [("a b/1.jpg", 0), ("c/2.jpg", 1), ("c/3.jpg", 1), ("d.jpg", 2)]

PROTOCOLS = {
    "lfw": ("LFW, 12 pairs, 3 folds", 18),
    "pairs": ("ours, 2 pairs, 2 folds", 3),
    "cfp-fp": ("CFP-FP, 4 pairs, 2 folds", 6),
    "blufr": ("BLUFR on LFW, 2 trials", 8),
    "ytf": ("YTF, 4 pairs, 2 folds", 6),
    "megaface": ("MegaFace, 4 probes, 2 distractors", 4),
    "ijba": ("IJB-A, ten splits", 24),
    "ijbb": ("IJB-B", 7),
    "ijbc": ("IJB-C", 7),
}


def protocol(kind):
    """A protocol of text files: every one of them is mutated."""
    rest = {}

    def write(root):
        rest["path"], rest["options"] = arguments(kind, root)

    def read(root):
        found = open_protocol(kind, rest["path"], **rest["options"]).protocol
        return found.name, len(found.images)

    mutants = {file: mutate_json if file.endswith(".json") else TEXT for file in TEXT_FILES[kind]}
    header = r"Line 1 of|is empty|must begin with|must have a column|JSON|holds no (faces|pairs)"
    share = 0.1 if kind == "ijba" else 1.0
    return Parser(kind, write, read, PROTOCOLS[kind], mutants, (ValueError,), header, share=share)


TEXT_FILES = {
    "lfw": ["pairs.txt"],
    "pairs": ["ours.tsv"],
    "cfp-fp": ["Protocol/Pair_list_F.txt", "Protocol/Split/FP/01/same.txt", "Protocol/Split/FP/02/diff.txt"],
    "blufr": ["image_list.txt", "labels.txt", "train_set.txt", "test_set.txt", "gallery_set.txt"],
    "ytf": ["splits.txt"],
    "megaface": ["probes.json", "others.json"],
    "ijba": [
        "IJB-A_11_sets/split1/verify_metadata_1.csv",
        "IJB-A_11_sets/split1/verify_comparisons_1.csv",
        "IJB-A_1N_sets/split1/search_gallery_1.csv",
    ],
    "ijbb": ["ijbb_face_tid_mid.txt", "ijbb_template_pair_label.txt", "ijbb_1N_gallery_S1.csv"],
    "ijbc": ["ijbc_face_tid_mid.txt", "ijbc_template_pair_label.txt", "ijbc_1N_probe_mixed.csv"],
}


def of_matlab(content, pick):
    """Mutants of a MATLAB file: of an element, compressed again with the right sum, or of the file itself."""
    if pick.random() < 0.1:
        return mutate(content, words(content, 128), pick)
    elements, position = [], 128
    while position < len(content):
        end = position + 8 + struct.unpack_from("<I", content, position + 4)[0]
        elements.append(zlib.decompress(content[position + 8 : end]))
        position = end
    chosen = pick.randrange(len(elements))
    element = elements[chosen]
    elements[chosen] = mutate(element, words(element), pick) if pick.random() < 0.95 else element + BOMB
    packed = [zlib.compress(element, 1) for element in elements]
    return content[:128] + b"".join(struct.pack("<II", 15, len(part)) + part for part in packed)


def matlab():
    def write(root):
        files.write_blufr_mat(root / "blufr.mat")

    def read(root):
        found = read_blufr(root / "blufr.mat")
        return found.name, len(found.images)

    header = "its header is not|7.3|in the first bytes of an element"
    known, mutants = PROTOCOLS["blufr"], {"blufr.mat": of_matlab}
    return Parser("matlab", write, read, known, mutants, (ProtocolFileError,), header, share=0.3)


def of_npz(content, pick):
    """Mutants of an .npz file: of a member, with the right sum, or of the file itself."""
    if pick.random() < 0.2:
        return mutate(content, places_of(content, len(content)), pick)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick.choice(list(members))
    member = members[name]
    kind = pick.choice((0, 1, 1, 3, 3, 3)) if pick.random() < 0.95 else 2
    if kind == 0:
        members[name] = mutate(member, [Field(8, 2)], pick)
    elif kind == 1:
        members[name] = with_bytes(member, pick)
    elif kind == 2:
        members[name] = member + BOMB
    else:
        end = member.index(b"\n")
        text = mutate_text(member[10:end].rstrip(), pick).ljust(end - 10)
        members[name] = member[:8] + struct.pack("<H", len(text) + 1) + text + member[end:]
    packed = io.BytesIO()
    with zipfile.ZipFile(
        packed, "w", pick.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), compresslevel=1
    ) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


def npz():
    def write(root):
        save_embeddings(root / "e.npz", ["a.jpg", "b.jpg"], [[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])

    def read(root):
        names, embeddings = load_embeddings(root / "e.npz")
        return names.tolist(), embeddings.tolist()

    known = (["a.jpg", "b.jpg"], [[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
    return Parser("npz", write, read, known, {"e.npz": of_npz}, (ValueError,), "not a zip file", share=0.5)


def of_checkpoint(content, pick):
    """Mutants of a checkpoint, most with the right sum."""
    body = content[:-32]
    end = 16 + int.from_bytes(body[8:16], "little")
    if pick.random() < 0.6:
        text = mutate_text(body[16:end], pick)
        body = body[:8] + len(text).to_bytes(8, "little") + text + body[end:]
    else:
        body = mutate(body, [Field(8, 8)], pick)
    return body + (hashlib.sha256(body).digest() if pick.random() < 0.9 else content[-32:])


def checkpoint():
    header = {"epoch": 0, "step": 3, "entries": [{"group": "model", "path": "a"}], "extra": {}}

    def write(root):
        write_checkpoint(root / "a.ckpt", header, [np.array([1.0, 2.0], "float32")])

    def read(root):
        found, arrays = read_checkpoint(root / "a.ckpt", *header)
        return found, [array.tolist() for array in arrays]

    mutants, refused = {"a.ckpt": of_checkpoint}, "no checkpoint|checksum"
    return Parser("checkpoint", write, read, (header, [[1.0, 2.0]]), mutants, (CorruptCheckpointError,), refused)


def of_npy(content, pick):
    """Mutants of an .npy file: of its header and of its rows."""
    if pick.random() < 0.5:
        return mutate(content, words(content, 128), pick)
    return content[:10] + mutate_text(content[10:127].rstrip(), pick).ljust(117)[:117] + content[127:]


def shards():
    def write(root):
        name = "shard-00000-of-00001.tfrecord"
        rows = [(b"image 0", 0, "Ada", "Ada/1.jpg"), (b"image 1!", 1, "Bob", "Bob/1.jpg")]
        entry = write_shard(root / name, rows)
        write_index(root, entry.rows)
        shard = {"name": name, "samples": 2, "bytes": entry.bytes, "sha256": entry.sha256}
        write_metadata(root, {**faces.metadata([shard], ["Ada", "Bob"]), "skipped": []})

    def read(root):
        reader = TFRecordShards(root)
        return [reader.sample(number) for number in range(len(reader))]

    mutants = {"dataset.json": mutate_json, "index.npy": of_npy}
    errors, header = (MetadataError,), "not valid JSON|is no array|JSON"
    return Parser("shards", write, read, [(b"image 0", 0), (b"image 1!", 1)], mutants, errors, header)


def of_json(name, file, text, parse, known):
    def write(root):
        (root / file).write_text(text)

    def read(root):
        return parse((root / file).read_bytes())

    return Parser(name, write, read, known, {file: mutate_json}, (ValueError,), "JSON", names_file=False)


def json_of_directory(name, file, write, read, known):
    return Parser(name, write, read, known, {file: mutate_json}, (ValueError,), "JSON")


def write_model(root):
    (root / "model.json").write_text(json.dumps({"format": "keras_normface.model", "version": 1, "card": CARD}))
    (root / "model.onnx").write_bytes(b"")


def feature_file():
    def write(root):
        write_megaface_features(root / "1.bin", [0.5, -1.0])

    def read(root):
        return read_megaface_features(root / "1.bin").tolist()

    mutants, header = {"1.bin": of_words}, "must begin with a header"
    return Parser("megaface_features", write, read, [0.5, -1.0], mutants, (ProtocolFileError,), header)


def of_torch(content, pick):
    """Mutants of a zipped state dict: of its pickle, packed again, or of the file itself."""
    if pick.random() < 0.2:
        return mutate(content, places_of(content, len(content)), pick)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = of_pickle(members[name], pick)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


def weights_file(suffix, package, save, mutants, header):
    """A state dict of a network, in a file that `package` reads."""

    def write(root):
        save({"a.weight": [[1.0, 2.0]], "a.bias": [3.0]}, root / f"a{suffix}")

    def read(root):
        from keras_normface.backbones._convert import read_tensors
        from keras_normface.backbones._torch_names import ADAFACE

        return {name: array.tolist() for name, array in read_tensors(root / f"a{suffix}", ADAFACE).items()}

    known, errors = {"a.weight": [[1.0, 2.0]], "a.bias": [3.0]}, (ConversionError,)
    absent = "" if importlib.util.find_spec(package) else f"{package}, which reads these files, is not installed"
    return Parser(suffix[1:], write, read, known, {f"a{suffix}": mutants}, errors, header, False, absent=absent)


def save_pth(tensors, path):
    import torch

    torch.save({"state_dict": {f"module.{name}": torch.tensor(rows) for name, rows in tensors.items()}}, path)


def save_safetensors(tensors, path):
    from safetensors.numpy import save_file

    save_file({f"model.{name}": np.array(rows, "float32") for name, rows in tensors.items()}, path)


def of_safetensors(content, pick):
    """Mutants of a file of safetensors: of its header, with the right length, of the length, and of the numbers."""
    end = 8 + int.from_bytes(content[:8], "little")
    kind = pick.randrange(8)
    if kind == 0:
        return mutate(content, [Field(0, 8)], pick)
    if kind == 1:
        return content[:end] + mutate(content[end:], words(content[end:]), pick)
    if kind == 2:
        text = mutate_json(content[8:end], pick)
        return len(text).to_bytes(8, "little") + text + content[end:]
    header, data = json.loads(content[8:end]), content[end:]
    data = with_tensor(header, data, pick)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


TYPES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "I64": 8,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "C64": 8,
    "F128": 4,
}


HEADER_OF_SAFETENSORS = "header too (small|large)|invalid (header|JSON|UTF)|HeaderToo|InvalidHeader"


def with_tensor(header, data, pick):
    """Change an entry of the header so that most readers believe it. Return the numbers, to which some are added."""
    name = pick.choice(list(header))
    entry, kind = header[name], pick.randrange(8)
    start, end = entry["data_offsets"]
    if kind < 2:  # another type of as many bytes
        entry["dtype"] = pick.choice(list(TYPES))
        entry["shape"] = [(end - start) // TYPES[entry["dtype"]]]
    elif kind == 2:
        entry["shape"] = pick.choice(([], [0], [1, *entry["shape"]], [2**32, 2**32], [-1, -4], [1] * 70, [0.5]))
    elif kind == 3:
        entry["data_offsets"] = pick.choice(([0, 4], [end, start], [start, 2**62], [start - 1, end], [start], "ab"))
    elif kind == 4:  # of no numbers, whatever its other sides
        header[pick.choice(("model.b", "b", ""))] = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [end, end]}
    elif kind == 5:
        added = pick.choice((bytes(4), b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"))
        new = pick.choice(("model.b", "b", "a.num_batches_tracked"))
        header[new] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
        return data + added
    elif kind == 6:
        header[pick.choice(("a.bias", "_orig_mod.a", "__metadata__", "\ud800", "a\nb"))] = header.pop(name)
    else:
        header["__metadata__"] = pick.choice(({}, {"format": "pt"}, {"a": 1}, [], {"a": "b" * 1000}))
    return data


def encoded(mode, kind, **options):
    rows = np.arange(12 * 9 * 3, dtype="uint8").reshape(12, 9, 3)
    content = io.BytesIO()
    Image.fromarray(rows).convert(mode).save(content, kind, **options)
    return content.getvalue()


ENCODED = {
    "a.png": encoded("RGB", "PNG"),
    "a.jpg": encoded("RGB", "JPEG"),
    "progressive.jpg": encoded("L", "JPEG", progressive=True, exif=b"Exif\0\0" + b"\xff\xc0\0\x11\x08\xff\xff"),
    "a.bmp": encoded("RGB", "BMP"),
    "a.gif": encoded("P", "GIF", comment=b"," * 20),
    "frames.gif": encoded("P", "GIF", save_all=True, append_images=[Image.new("P", (9, 12), 3)]),
    "lossy.webp": encoded("RGB", "WEBP"),
    "lossless.webp": encoded("RGB", "WEBP", lossless=True),
    "canvas.webp": encoded("RGBA", "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
}
SIDES = re.compile(rb"IHDR|BM|GIF8.a|,\0\0\0\0|VP8[XL ]|\xff[\xc0\xc2\xc4\xda\xdb\xe0\xe1]")


def of_image(content, pick):
    """Mutants of an image: of its sides, flags and lengths, which follow these names and markers."""
    found = [match.end() for match in SIDES.finditer(content)]
    order = ">" if content[:1] in b"\xff\x89" else "<"
    fields = [Field(at + step, size, order) for at in found for step in range(12) for size in (1, 2, 2, 4)]
    mutant = mutate(content, fields, pick)
    if content[:4] == b"\x89PNG" and pick.random() < 0.8:  # with the sum that decoders check
        mutant = mutant[:29] + struct.pack(">I", zlib.crc32(mutant[12:29])) + mutant[33:]
    return mutant


def image(kind, absent=""):
    """An image of which the header tells the size: what is read has at most so many pixels, in all frames."""
    files = {name: content for name, content in ENCODED.items() if name.endswith(f".{kind}")}
    preprocessing, others = Preprocessing(size=(8, 8)), [ENCODED["a.bmp"]] * 6

    def write(root):
        for name, content in files.items():
            (root / name).write_bytes(content)

    def read(root):
        return [pixels((root / name).read_bytes()) for name in files]

    def pixels(content):
        images = [content, content, *others]
        PairEvaluation(images, [True, False] * 2, preprocessing=preprocessing, folds=2, center_crop=True)
        decoded, stated = tf.size(decode_image(content)) // 3, stated_pixels(content)
        assert decoded <= stated, f"{decoded} pixels, by its header {stated}"
        return stated

    known, header = [108 * (1 + (name == "frames.gif")) for name in files], "Unknown image file format"
    mutants = dict.fromkeys(files, of_image)
    return Parser(f"image_{kind}", write, read, known, mutants, (ValueError,), header, False, 0.25, absent)


DLIB = {"stem": 1, "stages": ((1, 1), (2, 1)), "embedding": 2}


def dlib_file():
    from keras_normface.backbones._dlib_file import Plan, read_weights
    from tests.support.dlib_file import network

    content, weights = network(**DLIB)
    names = ["stem_{}", *(f"stage{stage}_unit1_{{}}{number}" for stage in (1, 2) for number in (1, 2))]
    known = {"embedding": [weights[-1]["kernel"]]}
    for name, part in zip(names, weights, strict=False):
        known[name.format("conv")] = [part["kernel"].transpose(2, 3, 1, 0), part["bias"]]
        known[name.format("affine")] = [part["gamma"], part["beta"]]
    known = {name: [array.astype("float32").tolist() for array in arrays] for name, arrays in known.items()}

    def write(root):
        (root / "a.dat").write_bytes(content)

    def read(root):
        arrays = read_weights(root / "a.dat", Plan(**DLIB))
        return {name: [array.tolist() for array in of_layer] for name, of_layer in arrays.items()}

    def mutants(content, pick):
        """Another number in a place that holds one, of the same length, so that the file has its size."""
        if pick.random() < 0.4:
            return mutate(content, [], pick)
        places = [place for place in range(len(content) - 1) if content[place] in (1, 2) and content[place + 1] < 200]
        place = pick.choice(places) + 1
        return content[:place] + bytes([pick.choice((0, 1, 2, 3, 7, 127, 128, 255))]) + content[place + 1 :]

    header = "bytes. Received|version of the file|name 'loss_metric_2'"
    return Parser("dlib", write, read, known, {"a.dat": mutants}, (ValueError,), header)


ROWS_OF_A_GALLERY = [[0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]]
PAGE_BYTES = 16384
VALUES_OF_SQL = ("NULL", "1", "-1", "0", "1e300", "9223372036854775807", "'x'", "''", "x''", "zeroblob(8)", "x'00'")
VALUES_OF_SQL += ("CAST(x'ff' AS TEXT)", "x'0000c07f0000803f'", "zeroblob(4000)", "'a' || char(0) || 'b'", "0.5")


def gallery_file():
    def write(root):
        (root / "a.gallery").unlink(missing_ok=True)
        with Gallery(root / "a.gallery", fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["Ada", "Ada", "Bob"], ROWS_OF_A_GALLERY, ["1.jpg", "2.jpg", "3.jpg"])

    def read(root):
        try:
            with Gallery(root / "a.gallery") as gallery:
                found = gallery.identify([1.0, 1.0], threshold=0.5)
                gallery.export(root / "out.csv")
                faults = gallery.check()
                if not faults:
                    gallery.threshold_at_fpir(1.0)
                return gallery.subjects(), found.name, len(found.candidates), faults
        finally:
            for name in ("a.gallery-wal", "a.gallery-shm"):
                (root / name).unlink(missing_ok=True)

    def mutants(content, pick):
        """Other values in a column, of any type, or other bytes in a page's head or cells."""
        if pick.random() < 0.5:
            page, size = pick.randrange(len(content) // PAGE_BYTES), PAGE_BYTES
            # A page's head and pointers are at its beginning, its cells at its end.
            place = page * size + (pick.randrange(120) if pick.random() < 0.5 else size - 1 - pick.randrange(600))
            value = bytes([pick.choice((0, 1, 2, 5, 10, 13, 127, 128, 255, pick.randrange(256)))])
            return content[:place] + value + content[place + 1 :]
        column = pick.choice(COLUMNS_OF_A_GALLERY)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            connection = sqlite3.connect(file.name, isolation_level=None)
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA journal_mode=DELETE")
                table, name = column.split(".")
                where = f"rowid = {pick.randrange(1, 4)}" if pick.random() < 0.7 else "1"
                connection.execute(f"UPDATE {table} SET {name} = {pick.choice(VALUES_OF_SQL)} WHERE {where}")
            connection.close()
            return open(file.name, "rb").read()

    known = ([("Ada", 2), ("Bob", 1)], "Ada", 2, [])
    header = "is not a gallery|file is not a database"
    return Parser("gallery", write, read, known, {"a.gallery": mutants}, (ValueError, OSError), header, share=0.5)


COLUMNS_OF_A_GALLERY = [
    *("gallery.fingerprint", "gallery.model", "gallery.dimension", "gallery.changes", "subject.id", "subject.name"),
    *("template.subject", "template.changed", "template.vector", "embedding.id", "embedding.subject"),
    *("embedding.image", "embedding.digest", "embedding.vector"),
]
THRESHOLD = CalibratedThreshold(0.1, 0.25, (0.2, 0.3), 0.05, 0.9, num_genuine=10, num_impostor=20, protocol="LFW")
PREPROCESSING = Preprocessing(size=(112, 96))
FIGURE = {"accuracy": 0.5, "standard_error": 0.1, "folds": 10, "pairs": "lfw.bin"}
RUN = {"seed": 0, "images": 9, "identities": 3, "data": "shards", "figures": {"lfw": FIGURE}}
CARD = ModelCard(
    format="onnx",
    input_shape=(112, 96, 3),
    input_dtype="uint8",
    dimension=512,
    flip="sum",
    preprocessing=PREPROCESSING,
    threshold=THRESHOLD,
    licence="CC0-1.0",
    figures=[CardFigure("EER", 0.004, "ORL", "command")],
).to_dict()
RECIPE = recipes.get("am_softmax_casia")

PARSERS = [
    record_io("recordio", IDENTITIES, True, READ),
    record_io("recordio_without_index", [*IMAGES, SPLIT], False, [*READ, (SPLIT[24:], 0)]),
    *(pairs_bin(number) for number in (0, 2, 4, 5)),
    image_list("image_list", "# head\na b/1.jpg 3\nc/2.jpg\t5\nc/3.jpg 5\nd.jpg 7\n", LISTED),
    image_list("lst_insightface", "1\ta b/1.jpg\t3\n1\tc/2.jpg\t5\n0\tc/3.jpg\t5\n1\td.jpg\t7\n", LISTED),
    image_list("lst_mxnet", "9\t3.0\ta b/1.jpg\n2\t5\tc/2.jpg\n3\t5\t0.5\tc/3.jpg\n4\t7e0\td.jpg\n", LISTED),
    *(protocol(kind) for kind in PROTOCOLS),
    matlab(),
    npz(),
    checkpoint(),
    shards(),
    feature_file(),
    dlib_file(),
    gallery_file(),
    of_json(
        "preprocessing", "p.json", json.dumps(PREPROCESSING.to_dict(), indent=1), preprocessing_from_json, PREPROCESSING
    ),
    json_of_directory("model_card", "model.json", write_model, lambda root: read_card(root).to_dict(), CARD),
    json_of_directory(
        "recipe", "recipe.json", RECIPE.save, lambda root: recipes.Recipe.load(root).to_fields(), RECIPE.to_fields()
    ),
    of_json("run", "run.json", RUN_FORMAT.text(RUN), parsed_run, RUN),
    of_json("threshold", "t.json", THRESHOLD.to_json(), CalibratedThreshold.from_json, THRESHOLD),
    weights_file(".pth", "torch", save_pth, of_torch, "central directory|Invalid magic"),
    weights_file(".safetensors", "safetensors", save_safetensors, of_safetensors, HEADER_OF_SAFETENSORS),
    *(image(kind) for kind in ("png", "jpg", "bmp", "gif")),
    image("webp", "" if hasattr(tf.raw_ops, "DecodeWebP") else "this TensorFlow does not decode WebP"),
]
