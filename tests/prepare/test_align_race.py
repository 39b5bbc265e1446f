"""Several processes align into one directory at once: each is told of the other, or finds all done; a full disk."""

import errno
import multiprocessing
import os
import re

import pytest

from keras_normface.data import IdentityFolder
from keras_normface.prepare import OutputError, align_images
from keras_normface.prepare._align_log import PartLog
from tests.support import faces

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="starting anew takes seconds"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of forking beside threads
]


def align(photos, out):
    return align_images(IdentityFolder(photos), out, detect=lambda i: [[] for _ in i], no_face="center", batch=2)


def race(photos, out, start, ends):
    start.wait()
    try:
        ends.put((os.getpid(), "done", align(photos, out).images))
    except OutputError as error:
        ends.put((os.getpid(), "refused", str(error)))
    except BaseException as error:
        ends.put((os.getpid(), "failed", repr(error)))


def tree(directory):
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def test_processes_that_start_at_once_keep_from_each_other(tmp_path):
    photos = faces.write_folder(tmp_path / "photos", 2, 6)
    assert align(photos, tmp_path / "whole").images == 12
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        start, ends, out = context.Event(), context.Queue(), tmp_path / f"out{attempt}"
        processes = [context.Process(target=race, args=(photos, out, start, ends)) for _ in range(4)]
        for process in processes:
            process.start()
        start.set()
        results = [ends.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        winners = {process for process, end, value in results if (end, value) == ("done", 12)}
        assert winners, results
        for _, end, value in results:
            if end != "done":
                assert end == "refused", value
                holder = re.fullmatch(rf"{re.escape(str(out))} is in use by another run: process (\d+) on .*", value)
                assert int(holder[1]) in winners
        assert tree(out) == tree(tmp_path / "whole")


def test_a_log_that_a_full_disk_does_not_take_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with PartLog(tmp_path, 2, ["a"]) as log:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*align\.jsonl\.part"):
            log.append([{"name": "a"}])
    assert log.done == 0
