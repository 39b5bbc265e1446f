"""Images to shards: a plan, by which a killed run resumes, then the shards, the index and the metadata."""

import hashlib
import json
import os
import re
from dataclasses import replace

import numpy as np

from keras_normface import _validation
from keras_normface._io import LOCK_NAME, UNFINISHED_PREFIX, ContainedFiles, JsonFormat, atomic_write
from keras_normface.data import PHOTO_EXTENSIONS
from keras_normface.data.shards import (
    FORMAT,
    INDEX_NAME,
    METADATA_NAME,
    MOST_SHARDS,
    file_sha256,
    read_metadata,
    write_index,
    write_metadata,
)
from keras_normface.prepare._output import OutputError, kind_of, locked
from keras_normface.prepare._photos import InvalidImageError, pillow
from keras_normface.prepare._workers import ShardWriter, Task, read_entry, shard_name, write_shards
from keras_normface.preprocessing import TEMPLATE_SIZES, Preprocessing
from keras_normface.version import __version__

HASHED_WHOLE = 1 << 26
FILES_BESIDE = ("property", METADATA_NAME, INDEX_NAME)


def describe_source(reader):
    """Return what tells a source from another: kind, name, counts, a checksum of names and labels, its files."""
    digest = hashlib.sha256(np.ascontiguousarray(reader.labels, "<i4"))
    for names in (reader.identities, map(reader.name, range(len(reader)))):
        for name in names:
            digest.update(name.encode("utf-8", "surrogatepass") + b"\0")
    path = os.path.abspath(os.fspath(reader.path or type(reader).__name__))
    directory, names = path, FILES_BESIDE
    if os.path.isfile(path):
        directory, name = os.path.split(path)
        names = (name, os.path.splitext(name)[0] + ".idx", "property")
    files = ContainedFiles(directory)
    paths = [files.checked_path(name) for name in names if os.path.isfile(os.path.join(directory, name))]
    return {
        "kind": type(reader).__name__,
        "name": os.path.basename(path),
        "samples": len(reader),
        "num_identities": reader.num_identities,
        "names_and_labels_sha256": digest.hexdigest(),
        "files": {os.path.basename(path): _describe_file(path) for path in paths},
    }


def _describe_file(path):
    size = os.path.getsize(path)
    return {"bytes": size, "sha256": file_sha256(path)} if size <= HASHED_WHOLE else {"bytes": size}


OTHER_IMAGE = "image of another kind"
PLAN_NAME, INVALID_NAME = "plan.json", "invalid.jsonl"
PLAN_FORMAT = JsonFormat("keras_normface.plan", 2, indent=1)
LARGEST_PLAN = 1 << 28
OWN_NAMES = re.compile(r"shard-\d{5}-of-\d{5}\.tfrecord|\.shard-\d{5}\.entry\.json")
IN_METADATA = ("source", "template", "excluded")
HIDDEN = (UNFINISHED_PREFIX, LOCK_NAME)
UNFINISHED = re.compile(re.escape(UNFINISHED_PREFIX))
HELPERS = re.compile(rf"{UNFINISHED.pattern}|\.shard-\d{{5}}\.entry\.json|plan\.json$")


def number_of_shards(samples, images_per_shard, shards=None):
    """Return into how many shards images go."""
    for name, value in (("images_per_shard", images_per_shard), ("shards", shards)):
        if value is not None:
            _validation.integer(name, value, 1)
    number = -(-samples // images_per_shard) if shards is None else shards
    if not 1 <= number <= min(samples, MOST_SHARDS):
        raise ValueError(
            f"There must be 1 to {min(samples, MOST_SHARDS)} shards, for {samples} images. Received: {number}"
        )
    return number


def make_plan(reader, shards, shuffle_seed, size, template, validate, excluded):
    """Return what must be equal for a run to resume, a dictionary that JSON can hold."""
    return {
        "source": describe_source(reader),
        "shards": shards,
        "shuffle_seed": shuffle_seed,
        "size": None if size is None else list(size),
        "template": template,
        "validate": bool(validate),
        "excluded": sorted(excluded),
    }


def begin(directory, plan):
    """Return the metadata of a complete directory, or `None` of one that is new or begun with the same plan."""
    if os.path.exists(os.path.join(directory, METADATA_NAME)):
        metadata = read_metadata(directory)
        found = {**_dictionary(metadata.get("plan")), **{key: metadata[key] for key in IN_METADATA}}
        _refuse_other_plan(found, plan, f"{directory} is complete, but was made")
        return metadata
    path, names = os.path.join(directory, PLAN_NAME), os.listdir(directory)
    begun = PLAN_NAME in names
    foreign = sorted(name for name in names if not name.startswith(HIDDEN) and not (begun and _is_own(name)))
    if foreign:
        raise OutputError(f"{directory} must be empty, new, or hold what an earlier run began. Received: {foreign[:3]}")
    if begun:
        found = PLAN_FORMAT.read(path, LARGEST_PLAN, OutputError)
        _refuse_other_plan(found, plan, f"{directory} was begun")
    clear(directory, UNFINISHED)
    if not begun:
        PLAN_FORMAT.write(path, plan)
    return None


def clear(directory, pattern=HELPERS):
    """Remove the files that only a run at work needs, `plan.json` last."""
    for name in sorted(os.listdir(directory)):
        if pattern.match(name):
            os.remove(os.path.join(directory, name))


def _is_own(name):
    return name in (PLAN_NAME, INDEX_NAME, INVALID_NAME) or OWN_NAMES.fullmatch(name) is not None


def _refuse_other_plan(found, plan, what):
    if found != plan:
        found = _dictionary(found)
        keys = [key for key in plan if found.get(key) != plan[key]] or ["keys that this version does not know"]
        inner = found.get("source")
        if keys[0] == "source" and isinstance(inner, dict):
            keys = [f"source.{key}" for key in plan["source"] if inner.get(key) != plan["source"][key]] or keys
        said = [f"{key}: then {_short(_at(found, key))}, now {_short(_at(plan, key))}" for key in keys]
        raise OutputError(f"{what} with other options or from another source. {'; '.join(said)}")


def _dictionary(value):
    return value if isinstance(value, dict) else {}


def _at(plan, key):
    for part in key.split("."):
        plan = plan.get(part) if isinstance(plan, dict) else None
    return plan


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def finish(reader, out, plan, entries, kept):
    """Write the index, `invalid.jsonl` if images were decoded, and last the metadata."""
    rows = np.concatenate([entry.rows for entry in entries])
    rows["shard"] = np.repeat(np.arange(len(entries)), [len(entry.rows) for entry in entries])
    write_index(out, rows)
    skipped = sorted(pair for entry in entries for pair in entry.skipped)
    skipped = [[reader.name(index), reason] for index, reason in skipped] + not_taken(reader)
    if plan["validate"]:
        _write_invalid(out, skipped)
    metadata = _metadata(reader, plan, entries, kept, skipped)
    write_metadata(out, metadata)
    return metadata


def not_taken(reader):
    """Pairs of a name and a reason: the files that the reader ignores, and the identities without an image."""
    pairs = [[path, f"{OTHER_IMAGE if is_photo(path) else 'no image'}: {kind_of(path)}"] for path in reader.ignored]
    return pairs + [[name, "identity without an image"] for name in reader.empty_identities]


def is_photo(path):
    """Whether a file is a photo by its name, though not one that training decodes."""
    return path.lower().endswith(PHOTO_EXTENSIONS)


def _refuse_first(skipped):
    """Raise for the first image that was excluded; what is no image by its name does not count."""
    for name, reason in skipped:
        if not reason.startswith(("no image", "identity without")):
            raise InvalidImageError(f"{name}: {reason}")


def _write_invalid(out, skipped):
    with (
        atomic_write(os.path.join(out, INVALID_NAME)) as beside,
        open(beside, "w", encoding="utf-8") as file,
    ):
        file.writelines(json.dumps({"name": name, "reason": reason}) + "\n" for name, reason in skipped)


def _metadata(reader, plan, entries, kept, skipped):
    sizes = {tuple(size) for entry in entries for size in entry.sizes}
    size = sizes.pop() if plan["size"] is None and len(sizes) == 1 else plan["size"]
    return {
        **FORMAT.head,
        "samples": sum(len(entry.rows) for entry in entries),
        "num_identities": int(kept.sum()),
        "identities": [name for name, stays in zip(reader.identities, kept.tolist(), strict=True) if stays],
        "image_size": None if size is None else list(size),
        "template": plan["template"],
        "source": plan["source"],
        "excluded": plan["excluded"],
        "skipped": skipped,
        "shards": [
            {
                "name": shard_name(number, len(entries)),
                "samples": len(entry.rows),
                "bytes": entry.bytes,
                "sha256": entry.sha256,
            }
            for number, entry in enumerate(entries)
        ],
        "created_by": f"keras_normface {__version__}",
        "plan": {key: plan[key] for key in plan if key not in IN_METADATA},
    }


IMAGES_PER_SHARD = 16384


def prepare_shards(
    reader,
    out,
    *,
    images_per_shard=IMAGES_PER_SHARD,
    shards=None,
    size=None,
    template=None,
    shuffle_seed=0,
    jobs=None,
    validate=False,
    strict=False,
    excluded=(),
    progress=None,
):
    """Write the images of a reader as TFRecord shards with `index.npy` and `dataset.json`, for `TFRecordShards`.

    The encoded bytes stay as they are. The files are the same, byte for byte, for the same source and options,
    whatever `jobs` is and however often the run was killed: called again, it resumes with the shards that are
    missing. Images that cannot be used are excluded and listed, as are files of other kinds and identities without an
    image; identities of which none is left vanish.

    Args:
        reader: A `Reader`, such as `IdentityFolder`.
        out: Directory to write to; it must be new, empty, or begun by an earlier run of the same options.
        images_per_shard: Most images in a shard. Shards are of equal size, give or take one.
        shards: Number of shards, instead of `images_per_shard`.
        size: Pair `(height, width)` in pixels of the images, to be recorded; with `validate` they must have it.
            `None`: that of the template, or what the reader records.
        template: Name of the landmark template by which the faces were aligned, to be recorded. `None`: what the
            reader records, as the directories of `align_images` do. No pixel is changed.
        shuffle_seed: Seed of the order, from 0 to 2^32 - 1, so that neighbours in a shard are of different
            identities. `None`: the reader's order.
        jobs: Number of processes. `None` or 1: none but this one. Otherwise a script must call this below
            `if __name__ == "__main__":`, as always with Python's `multiprocessing`.
        validate: Whether to decode each image; see `validated_size`. `invalid.jsonl` then lists what was excluded.
        strict: Whether the first image that cannot be used is an error.
        excluded: Names of identities that the reader excludes, to be recorded.
        progress: `None`, or a function called with the number of images done so far and that of all.

    Returns:
        The metadata, a dictionary; see `write_metadata`.

    Raises:
        OutputError: A ValueError. If `out` holds other things, or what another plan or source began or completed.
        InvalidImageError: A ValueError. If `strict`, at an image that cannot be used.
        ValueError: If an argument does not fit, or no image can be used.
        ImportError: If `validate`, and Pillow is not installed.
        OSError: If something cannot be written.

    Example:
    >>> import os, tempfile
    >>> from keras_normface.data import IdentityFolder, TFRecordShards
    >>> root = tempfile.mkdtemp()
    >>> for name in ["photos/Ada/1.jpg", "photos/Ada/2.jpg", "photos/Grace/1.jpg"]:
    ...     os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
    ...     with open(os.path.join(root, name), "wb") as file:
    ...         _ = file.write(name.encode())
    >>> shards = os.path.join(root, "shards")
    >>> metadata = prepare_shards(IdentityFolder(os.path.join(root, "photos")), shards)
    >>> metadata["samples"], metadata["identities"], sorted(os.listdir(shards))
    (3, ['Ada', 'Grace'], ['dataset.json', 'index.npy', 'shard-00000-of-00001.tfrecord'])
    >>> sorted(TFRecordShards(shards).sample(index) for index in range(3))[0]
    (b'photos/Ada/1.jpg', 0)
    """
    _check_arguments(reader, shuffle_seed, jobs)
    size, template = _described(reader, size, template)
    if validate:
        pillow()
    shards = number_of_shards(len(reader), images_per_shard, shards)
    plan = make_plan(reader, shards, shuffle_seed, size, template, validate, excluded)
    if strict:
        _refuse_first(not_taken(reader))
    with locked(os.fspath(out)):
        metadata = begin(out, plan)
        if metadata is None:
            writer = ShardWriter(reader, out, validate, size, strict)
            entries, kept = _write_all(writer, plan, jobs or 1, _Progress(progress, len(reader)))
            metadata = finish(reader, out, plan, entries, kept)
        elif strict:
            _refuse_first(metadata["skipped"])
        clear(out)
    return metadata


def _check_arguments(reader, shuffle_seed, jobs):
    for name, value, least in (("shuffle_seed", shuffle_seed, 0), ("jobs", jobs, 1)):
        if value is not None:
            _validation.integer(name, value, least, 2**32 - 1)
    if not len(reader):
        raise ValueError(f"`reader` must hold an image. Received: {reader!r}")


def _described(reader, size, template):
    """Size and template of the images, from the arguments or from the reader's record; the two must agree."""
    if size is not None or template is not None:
        size = Preprocessing(
            size=TEMPLATE_SIZES.get(template, (1, 1)) if size is None else size, template=template
        ).size
    stated = None if reader.image_size is None else tuple(reader.image_size)
    for name, given, recorded in (("size", size, stated), ("template", template, reader.template)):
        if None not in (given, recorded) and given != recorded:
            raise ValueError(f"`{name}` must be that which {reader.path} records, {recorded}. Received: {given}")
    return size or stated, template or reader.template


class _Progress:
    """Adds up images, and tells the caller."""

    def __init__(self, report, total):
        self.report, self.total, self.done = report, total, 0

    def __call__(self, images):
        self.done += images
        if self.report is not None and images:
            self.report(min(self.done, self.total), self.total)


def _write_all(writer, plan, jobs, progress):
    """Return the entries of all shards, and which identities are kept."""
    reader, shards = writer.reader, plan["shards"]
    order = np.arange(len(reader))
    if plan["shuffle_seed"] is not None:
        # RandomState, for it gives the same order in every version of NumPy.
        order = np.random.RandomState(plan["shuffle_seed"]).permutation(len(reader))
    tasks = [
        Task(shard, shards, order[shard * len(order) // shards : (shard + 1) * len(order) // shards])
        for shard in range(shards)
    ]
    entries = [read_entry(writer.out, task.number, shards) for task in tasks]
    progress(sum(len(task.indices) for task, entry in zip(tasks, entries, strict=True) if entry))
    _write_missing(writer, tasks, entries, jobs, progress)
    _refuse_skipped(writer, entries)
    kept = _kept_identities(reader, entries)
    if not kept.all():
        # An identity has lost its last image: labels above its own move down, in a second round.
        renumbered = (np.cumsum(kept) - 1).astype("int32")
        tasks = [
            replace(task, renumbered=renumbered, known_skipped=tuple(entry.skipped))
            for task, entry in zip(tasks, entries, strict=True)
        ]
        entries = [entry if entry.num_identities == kept.sum() else None for entry in entries]
        _write_missing(writer, tasks, entries, jobs, progress)
    return entries, kept


def _write_missing(writer, tasks, entries, jobs, progress):
    missing = [task for task, entry in zip(tasks, entries, strict=True) if entry is None]
    for task, entry in zip(missing, write_shards(writer, missing, jobs, progress), strict=True):
        entries[task.number] = entry


def _refuse_skipped(writer, entries):
    if writer.strict:
        for entry in entries:
            for index, reason in entry.skipped:
                raise InvalidImageError(f"{writer.reader.name(index)}: {reason}")


def _kept_identities(reader, entries):
    counts = np.bincount(reader.labels, minlength=reader.num_identities)
    skipped = np.array([index for entry in entries for index, _ in entry.skipped], "int64")
    kept = counts > np.bincount(reader.labels[skipped], minlength=reader.num_identities)
    if not kept.any():
        index, reason = min(pair for entry in entries for pair in entry.skipped)
        raise ValueError(
            f"`reader` must hold an image that can be used. Received: {len(skipped)}, none of which can; "
            f"{reader.name(index)}: {reason}"
        )
    return kept
