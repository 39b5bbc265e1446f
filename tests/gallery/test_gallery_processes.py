"""A gallery under `kill -9`, on a full disk, and between several processes: what was said to be stored is there."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_normface._io import LockedError
from keras_normface.gallery import Gallery, _database

KILLS = 20
SETUP = """
import sys
import numpy as np
from keras_normface.gallery import Gallery
gallery = Gallery(sys.argv[1], fingerprint="toy")
def rows(number, each=3):
    return np.random.default_rng(number).normal(size=(each, 64)) + np.eye(64)[number % 64] * 20
"""
# Enrols, merges and removes, and says after each what is stored now.
CHANGES = (
    SETUP
    + """
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    gallery.enrol_embeddings([f"s{number}"] * 3, rows(number))
    print("+", number, flush=True)
    if number % 3 == 2:
        gallery.remove(f"s{number - 1}")
        print("-", number - 1, flush=True)
        gallery.merge(f"s{number}", f"s{number - 2}")
        print("m", number, flush=True)
    number += 1
"""
)
ADDS = (
    SETUP
    + """
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 40):
    gallery.enrol_embeddings([f"s{number}"] * 3, rows(number))
print(len(gallery))
"""
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.gallery"


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def after(lines, stored):
    """What must be stored after the changes that were said to be done: {name: number of embeddings}."""
    for line in lines:
        sign, number = line.split()[0], int(line.split()[1])
        if sign == "+":
            stored[f"s{number}"] = 3
        elif sign == "-":
            del stored[f"s{number}"]
        else:
            stored[f"s{number - 2}"] += stored.pop(f"s{number}")
    return stored


def killed_at_random_moments(path, kills, seconds=0.15):
    """Writers that are killed: what they said to be stored is there; of the change after it, all or nothing."""
    rng, stored, number = random.Random(0), {}, 0
    Gallery(path, fingerprint="toy").close()
    total = 0
    for _ in range(kills):
        process = start(CHANGES, path, number)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(rng.uniform(0.0, seconds))
        process.send_signal(signal.SIGKILL)
        output = process.stdout.read()  # `communicate` would lose what was read ahead with the first line
        process.communicate()
        lines = [line for line in output.split("\n")[:-1] if line]
        total += len(lines)
        stored = after(lines, stored)
        with Gallery(path) as gallery:
            found = dict(gallery.subjects())
            assert gallery.check() == []
            # The change after the last that was said to be done may be there too, as a whole.
            numbers = [int(line.split()[1]) for line in lines if line[0] == "+"]
            newest = (numbers[-1] if numbers else number - 1) if lines else number - 1
            allowed = [stored, {**stored, f"s{newest + 1}": 3}]
            last = lines[-1][0] if lines else ""
            if last == "+" and newest % 3 == 2:
                allowed.append({name: count for name, count in stored.items() if name != f"s{newest - 1}"})
            if last == "-":
                merged = dict(stored)
                merged[f"s{newest - 2}"] += merged.pop(f"s{newest}")
                allowed.append(merged)
            assert found in allowed
            stored = found
            # The next process begins a new round of three.
            number = 3 * (newest // 3 + 2)
    assert total > kills // 2


def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_half_there(path):
    killed_at_random_moments(path, KILLS)


def test_two_writers_and_a_reader(path):
    Gallery(path, fingerprint="toy").close()
    writers = [start(ADDS, path, first) for first in (0, 1000)]
    counts = []
    with Gallery(path) as reader:
        while any(writer.poll() is None for writer in writers):
            subjects = reader.subjects()
            assert {count for _, count in subjects} <= {3}
            if subjects:
                assert len(reader.identify(np.ones(64), threshold=0, count=1000).candidates) >= len(subjects)
            counts.append(len(subjects))
        for writer in writers:
            _, errors = writer.communicate()
            assert writer.returncode == 0, errors
        assert len(reader) == 80
        assert reader.check() == []
        assert len(reader.identify(np.ones(64), threshold=0, count=1000).candidates) == 80
    assert counts == sorted(counts)


def test_a_writer_that_waits_too_long_names_the_reason(path, monkeypatch):
    monkeypatch.setattr(_database, "SECONDS_TO_WAIT", 0.2)
    with Gallery(path, fingerprint="toy") as one, Gallery(path) as other:
        one.enrol_embeddings(["a"], [[1, 0]])
        holder = _database.sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockedError, match=r"people.gallery is in use by another process"):
            other.enrol_embeddings(["b"], [[1, 0]])
        assert other.identify([1, 0], threshold=0.5).name == "a"  # readers do not wait
        holder.execute("ROLLBACK")
        holder.close()
        other.enrol_embeddings(["b"], [[1, 0]])
        assert [name for name, _ in one.subjects()] == ["a", "b"]


def test_a_full_disk_costs_nothing_that_was_stored(path):
    rows = np.random.default_rng(0).normal(size=(4000, 64))
    with Gallery(path, fingerprint="toy") as gallery:
        gallery.enrol_embeddings(["before"], rows[:1])
        limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(OSError, match=r"people.gallery") as raised:
                gallery.enrol_embeddings([f"s{number}" for number in range(4000)], rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert raised.value.filename == os.fspath(path)
        assert gallery.subjects() == [("before", 1)]
        assert gallery.check() == []
        gallery.enrol_embeddings([f"s{number}" for number in range(4000)], rows)
        assert len(gallery) == 4001


def test_a_hundred_thousand_people(path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100_000, 32)).astype("float32")
    with Gallery(path, fingerprint="toy") as gallery:
        assert gallery.enrol_embeddings([f"person {number}" for number in range(100_000)], rows) == 100_000
        chosen = rng.integers(0, 100_000, 50)
        found = gallery.identify_many(rows[chosen], threshold=0.99, count=2)
        assert [one.name for one in found] == [f"person {number}" for number in chosen]
        gallery.remove(f"person {chosen[0]}")
        assert gallery.identify(rows[chosen[0]], threshold=0.99).name is None
        assert len(gallery) == 99_999


def test_an_interrupt_while_it_waits_leaves_no_transaction_open(path):
    with Gallery(path, fingerprint="toy") as gallery:
        gallery.enrol_embeddings(["a"], [[1, 0]])
        code = (
            "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(1.5); c.execute('ROLLBACK')"
        )
        holder = start(code, path)
        assert holder.stdout.readline() == "held\n"
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with pytest.raises(KeyboardInterrupt):
                gallery.enrol_embeddings(["b"], [[1, 0]])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        holder.communicate()
        gallery.enrol_embeddings(["c"], [[1, 0]])
        with Gallery(path) as other:
            other.enrol_embeddings(["d"], [[1, 0]])
            names = [name for name, _ in other.subjects()]
        assert [name for name in names if name != "b"] == ["a", "c", "d"]


FORKS = """
import os, sys
from keras_normface.gallery import Gallery
gallery = Gallery(sys.argv[1], fingerprint="toy")
if not os.fork():
    try:
        gallery.enrol_embeddings(["child"], [[1, 0]])
    except ValueError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
gallery.enrol_embeddings(["parent"], [[1, 0]])
print(gallery.subjects())
"""


def test_after_a_fork_it_must_be_opened_anew(path):
    process = start(FORKS, path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    first, second = output.splitlines()
    assert "was opened before a fork" in first
    assert second == "[('parent', 1)]"
