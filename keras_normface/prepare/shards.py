"""From any reader to shards: in parallel, resumable, the same bytes however it was made."""

import os
from dataclasses import replace

import numpy as np

from keras_normface.prepare.finish import finish
from keras_normface.prepare.one_shard import ShardWriter, Task, read_entry
from keras_normface.prepare.output import only_one_at_work
from keras_normface.prepare.plan import begin, clear, make_plan, number_of_shards
from keras_normface.prepare.validate import InvalidImageError
from keras_normface.prepare.workers import write_shards

IMAGES_PER_SHARD = 16384


def prepare_shards(
    reader,
    out,
    *,
    images_per_shard=IMAGES_PER_SHARD,
    shards=None,
    preprocessing=None,
    shuffle_seed=0,
    jobs=None,
    validate=False,
    strict=False,
    excluded=(),
    progress=None,
):
    """Write the images of a reader as TFRecord shards with `index.npy` and `dataset.json`, for `TFRecordShards`.

    The encoded bytes stay as they are. The files are the same, byte for byte, for the same source and options,
    whatever `jobs` is and however often the run was killed: called again, it goes on with the shards that are not
    there. Images that cannot be used are left out and listed; identities of which none is left vanish.

    Args:
        reader: A `Reader`, such as `IdentityFolder`.
        out: Directory to write to; it must be new, empty, or begun by an earlier run of the same options.
        images_per_shard: Most images in a shard. Shards are of equal size, give or take one.
        shards: Number of shards, instead of `images_per_shard`.
        preprocessing: A `Preprocessing` to note down in `dataset.json`. No pixel is changed. With `validate`,
            images must have its size.
        shuffle_seed: Seed of the order, from 0 to 2^32 - 1, so that neighbours in a shard are of different
            identities. `None`: the reader's order.
        jobs: Number of processes. `None` or 1: none but this one. Otherwise a script must call this below
            `if __name__ == "__main__":`, as always with Python's `multiprocessing`.
        validate: Whether to decode each image; see `validated_size`. `invalid.jsonl` then lists what was left out.
        strict: Whether the first image that cannot be used is an error.
        excluded: Names of identities that the reader was told to leave out, to note down.
        progress: `None`, or a function called with the number of images done so far and that of all.

    Returns:
        The sidecar, a dictionary; see `write_sidecar`.

    Raises:
        OutputError: A ValueError. If `out` holds other things, or what another plan or source began or completed.
        InvalidImageError: A ValueError. If `strict`, at an image that cannot be used.
        ValueError: If an argument does not fit, or no image can be used.
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
    >>> sidecar = prepare_shards(IdentityFolder(os.path.join(root, "photos")), shards)
    >>> sidecar["samples"], sidecar["identities"], sorted(os.listdir(shards))
    (3, ['Ada', 'Grace'], ['dataset.json', 'index.npy', 'shard-00000-of-00001.tfrecord'])
    >>> sorted(TFRecordShards(shards).sample(index) for index in range(3))[0]
    (b'photos/Ada/1.jpg', 0)
    """
    _check_arguments(reader, preprocessing, shuffle_seed, jobs, validate)
    shards = number_of_shards(len(reader), images_per_shard, shards)
    plan = make_plan(reader, shards, shuffle_seed, preprocessing, validate, excluded)
    size = reader.image_size if preprocessing is None else preprocessing.size
    with only_one_at_work(os.fspath(out)):
        sidecar = begin(out, plan)
        if sidecar is None:
            writer = ShardWriter(reader, out, validate, size, strict)
            entries, kept = _write_all(writer, plan, jobs or 1, _Progress(progress, len(reader)))
            sidecar = finish(reader, out, plan, entries, kept)
        elif strict and sidecar["skipped"]:
            raise InvalidImageError(": ".join(sidecar["skipped"][0]))
        clear(out)
    return sidecar


def _check_arguments(reader, preprocessing, shuffle_seed, jobs, validate):
    for name, value, least in (("shuffle_seed", shuffle_seed, 0), ("jobs", jobs, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32):
            raise ValueError(f"`{name}` must be None or a whole number from {least} to 2^32 - 1. Received: {value!r}")
    if not len(reader):
        raise ValueError(f"`reader` must hold an image. Received: {reader!r}")
    stated = reader.image_size
    if preprocessing is not None and stated is not None and tuple(stated) != preprocessing.size:
        raise ValueError(
            f"`preprocessing` must have the size of the images, {tuple(stated)} as the source says. "
            f"Received: {preprocessing.size}"
        )


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
