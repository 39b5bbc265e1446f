"""Shards written by several processes. Threads do not help: making the records holds Python's lock."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

SECONDS_BETWEEN_LOOKS = 0.2


class StoppedError(RuntimeError):
    """Another shard failed, so this one was given up."""


class _Worker:
    """What a worker process keeps: set once by `_begin_worker`."""

    writer = count = stop = None


def write_shards(writer, tasks, jobs, progress):
    """Write shards, in this process or in several.

    Args:
        writer: A `ShardWriter`.
        tasks: List of `Task`s.
        jobs: Number of processes; 1: this one.
        progress: Called with the number of images since the last call.

    Returns:
        List of the `Entry` of each task.

    Raises:
        InvalidImageError, OSError: See `ShardWriter.write`; of several, that of the first task.
        OSError: If a process dies.
    """
    if min(jobs, len(tasks)) <= 1:
        return [writer.write(task, progress) for task in tasks]
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("q", 0), context.Event()
    shared = (writer, count, stop)
    workers = min(jobs, len(tasks))
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin_worker, shared) as pool:
        futures = [pool.submit(_write_in_worker, task) for task in tasks]
        try:
            _wait(futures, count, progress)
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise OSError("A process that wrote shards has died, perhaps for want of memory; try fewer jobs") from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


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
    _Worker.writer, _Worker.count, _Worker.stop = writer, count, stop


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
