"""Writes the shards of a plan in one or several processes, and an entry file for each."""

import base64
import concurrent.futures
import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import signal
import threading
import zlib
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass

import numpy as np

from keras_normface._io import json_text, write_text
from keras_normface.data.shards import INDEX_DTYPE, write_shard
from keras_normface.prepare._photos import InvalidImageError, validated_size
from keras_normface.startup import call_after_loading

CHUNK = 64
FAULTS_OF_ONE_FILE = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENOTDIR}


@dataclass(frozen=True)
class Task:
    """A shard to write: its number of `shards`, and which samples of the reader, in this order."""

    number: int
    shards: int
    indices: np.ndarray  # int64
    renumbered: np.ndarray | None = None  # int32, the new label of each of the reader's identities
    known_skipped: tuple | None = None  # (index, reason) pairs that an earlier round found


@dataclass(frozen=True)
class Entry:
    """A shard that was written."""

    rows: np.ndarray  # of `INDEX_DTYPE`
    sha256: str
    bytes: int
    num_identities: int
    skipped: list  # of pairs (index of the reader, reason)
    sizes: list  # up to two [height, width] that occur, if images were decoded


def shard_name(number, shards):
    """Return the file name of a shard."""
    return f"shard-{number:05d}-of-{shards:05d}.tfrecord"


class ShardWriter:
    """Writes shards of one plan into one directory; it can be pickled."""

    def __init__(self, reader, out, validate, size, strict):
        self.reader, self.out = reader, os.fspath(out)
        self.validate, self.size, self.strict = validate, size, strict

    def write(self, task, advance):
        """Write a shard, then its entry."""
        import tensorflow as tf

        skipped, sizes = [], set()
        path = os.path.join(self.out, shard_name(task.number, task.shards))
        try:
            written = write_shard(path, self._examples(task, skipped, sizes, advance))
        except tf.errors.OpError as error:
            raise OSError(f"{path} cannot be written: {error.message}") from error
        identities = self.reader.num_identities if task.renumbered is None else int(task.renumbered.max()) + 1
        entry = Entry(*written, identities, skipped, [list(size) for size in sorted(sizes)[:2]])
        write_entry(self.out, task.number, entry)
        return entry

    def _examples(self, task, skipped, sizes, advance):
        names, labels = self.reader.identities, self.reader.labels
        known = None if task.known_skipped is None else np.array([index for index, _ in task.known_skipped], "int64")
        for start in range(0, len(task.indices), CHUNK):
            indices = task.indices[start : start + CHUNK]
            if known is not None:
                indices = indices[~np.isin(indices, known)]
            for index, encoded in zip(indices.tolist(), self._read(indices), strict=True):
                try:
                    self._check(encoded, sizes)
                except InvalidImageError as error:
                    if self.strict or task.known_skipped is not None:
                        raise InvalidImageError(f"{self.reader.name(index)}: {error}") from error
                    skipped.append((index, str(error)))
                    continue
                label = int(labels[index])
                new = label if task.renumbered is None else int(task.renumbered[label])
                yield encoded, new, names[label], self.reader.name(index)
            advance(len(task.indices[start : start + CHUNK]))
        skipped.extend(task.known_skipped or ())

    def _check(self, encoded, sizes):
        if isinstance(encoded, InvalidImageError):
            raise encoded
        if not encoded:
            raise InvalidImageError("zero bytes")
        if self.validate:
            sizes.add(validated_size(encoded, self.size))

    def _read(self, indices):
        """Return the images; an InvalidImageError in place of each that cannot be read."""
        try:
            return self.reader.encoded(indices)
        except (ValueError, OSError):
            return [self._read_one(index) for index in indices]

    def _read_one(self, index):
        try:
            return self.reader.sample(index)[0]
        except ValueError as error:
            return InvalidImageError(f"unreadable: {error}")
        except OSError as error:
            if error.errno not in FAULTS_OF_ONE_FILE:
                raise
            return InvalidImageError(f"unreadable: {error.strerror}")


def write_entry(directory, number, entry):
    """Write the entry file of a shard."""
    packed = base64.b64encode(zlib.compress(entry.rows.tobytes(), 1)).decode()
    write_text(_entry_path(directory, number), json_text({**asdict(entry), "rows": packed}, indent=None))


def read_entry(directory, number, shards):
    """Return the `Entry` of a shard, or `None` if it has none, or the shard is not as long as it says."""
    try:
        with open(_entry_path(directory, number), "rb") as file:
            fields = json.load(file)
        fields["rows"] = np.frombuffer(zlib.decompress(base64.b64decode(fields["rows"])), INDEX_DTYPE)
        fields["skipped"] = [(int(index), str(reason)) for index, reason in fields["skipped"]]
        entry = Entry(**fields)
        size = os.path.getsize(os.path.join(directory, shard_name(number, shards)))
    except (OSError, ValueError, TypeError, KeyError, zlib.error):
        return None
    return entry if size == entry.bytes else None


def _entry_path(directory, number):
    return os.path.join(directory, f".shard-{number:05d}.entry.json")


SECONDS_BETWEEN_LOOKS = 0.2


class StoppedError(RuntimeError):
    """Another shard failed, so this one was given up."""


class _Worker:
    """What a worker process keeps: set once by `_begin_worker`."""

    writer = count = stop = None


def write_shards(writer, tasks, jobs, progress):
    """Tasks → their entries, written by `jobs` processes; of several errors, that of the first task is raised."""
    if min(jobs, len(tasks)) <= 1:
        return [writer.write(task, progress) for task in tasks]
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("q", 0), context.Event()
    # The writer as bytes: it can be read once TensorFlow is loaded, in each worker without its notices.
    shared = (__name__, _begin_worker.__name__, pickle.dumps(writer), count, stop)
    workers = min(jobs, len(tasks))
    with concurrent.futures.ProcessPoolExecutor(workers, context, call_after_loading, shared) as pool:
        futures = []
        try:
            with _interrupts_held():
                futures += [pool.submit(_write_in_worker, task) for task in tasks]
            _wait(futures, count, progress)
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise OSError("A process that wrote shards has died, perhaps for want of memory; try fewer jobs") from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held():
    """Hold SIGINT back meanwhile, also in processes that are started: they ignore it once they have imported."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(futures, count, progress):
    """Report progress until all is done; raise the error of the first task that failed, once those before are done."""
    seen, pending = 0, list(futures)
    while pending:
        concurrent.futures.wait(pending[:1], SECONDS_BETWEEN_LOOKS)
        now = count.value
        progress(now - seen)
        seen = now
        while pending and pending[0].done():
            pending.pop(0).result()
    progress(count.value - seen)


def _begin_worker(writer, count, stop):
    import tensorflow as tf

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tf.config.set_visible_devices([], "GPU")
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _Worker.writer, _Worker.count, _Worker.stop = pickle.loads(writer), count, stop  # noqa: S301 (our own)


def _die_with_parent():
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)


def _write_in_worker(task):
    return _Worker.writer.write(task, _advance)


def _advance(images):
    if _Worker.stop.is_set():
        raise StoppedError("another shard failed")
    with _Worker.count.get_lock():
        _Worker.count.value += images
