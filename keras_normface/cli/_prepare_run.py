"""What `keras-normface prepare`, `align` and `pairs` do once their options are checked."""

import collections
import os

from keras_normface._io import printable
from keras_normface.cli._console import say
from keras_normface.data import CASIA_LFW_OVERLAP, EXTENSIONS, PHOTO_EXTENSIONS, guess_format, open_reader
from keras_normface.prepare import align_images, prepare_shards
from keras_normface.protocols import numbered_lines
from keras_normface.protocols.pair_drawing import RULE, make_pairs
from keras_normface.protocols.pair_files import write_pair_list

__all__ = ["PHOTO_EXTENSIONS", "align_images", "guess_format", "make_pairs", "prepare_shards", "write_pair_list"]


SHOWN_NAMES = 10


def open_source(source, kind, exclude=(), overlap=False, root=None, identities=None, extensions=EXTENSIONS):
    """A source → its reader, and the sorted names of the excluded identities."""
    options = {"extensions": extensions} if kind == "folder" else {}
    if kind == "list":
        options["root"] = root
    if kind == "recordio":
        options["identities"] = (
            None if identities is None else [line.text for line in numbered_lines(identities, blank=True)]
        )
    if not overlap or not exclude:
        names = CASIA_LFW_OVERLAP if overlap else frozenset(exclude)
        return open_reader(source, kind, exclude=names, **options), sorted(names)
    if kind == "list":
        raise ValueError(
            "--exclude and --exclude-lfw-overlap must not both be given for a list, whose names are labels"
        )
    present = CASIA_LFW_OVERLAP.intersection(open_reader(source, kind, **options).identities)
    names = present.union(exclude)
    return open_reader(source, kind, exclude=names, **options), sorted(CASIA_LFW_OVERLAP.union(exclude))


def say_what_is_not_taken(reader):
    """Count, on standard error, the files that the reader ignores, and name the identities without an image."""
    kinds = collections.Counter(os.path.splitext(path)[1].lower() or "no ending" for path in reader.ignored)
    if kinds:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        say(printable(f"Not taken: {counts}; the first is {reader.ignored[0]}"), err=True)
    empty = reader.empty_identities
    if empty:
        more = f" and {len(empty) - SHOWN_NAMES:,} more" if len(empty) > SHOWN_NAMES else ""
        say(printable(f"Identities without an image: {', '.join(empty[:SHOWN_NAMES])}{more}"), err=True)


def prepare_summary(metadata, seconds):
    """The rows of the table: counts, excluded images by reason, time."""
    rows = [("images", f"{metadata['samples']:,}"), ("identities", f"{metadata['num_identities']:,}")]
    reasons = {}
    for _, reason in metadata["skipped"]:
        kind = reason.partition(":")[0]
        reasons[kind] = reasons.get(kind, 0) + 1
    rows.append(("skipped", f"{len(metadata['skipped']):,}"))
    rows += [(f"  {kind}", f"{reasons[kind]:,}") for kind in sorted(reasons)]
    rows.append(("shards", f"{len(metadata['shards']):,}"))
    rows.append(("bytes", f"{sum(shard['bytes'] for shard in metadata['shards']):,}"))
    if seconds is not None:
        done = metadata["samples"] + len(metadata["skipped"])
        rows += [("seconds", f"{seconds:.1f}"), ("images/s", f"{done / max(seconds, 1e-9):,.0f}")]
    return rows


def align_summary(report):
    """The rows of the table."""
    rows = (
        ("photos", report.images),
        ("aligned", report.aligned),
        ("  of several faces", report.several_faces),
        ("no face", report.no_face),
        ("not an image", report.not_an_image),
        ("not taken", report.not_taken),
        ("of earlier runs", report.resumed),
    )
    return [(name, f"{count:,}") for name, count in rows]


def facts(reader, seed, folds, pairs_per_fold):
    """The lines at the head of a pair file: how its pairs were drawn."""
    return [
        f"Seed {seed}, {folds} folds of {pairs_per_fold} genuine and {pairs_per_fold} impostor pairs, "
        f"from {len(reader)} images of {reader.num_identities} identities.",
        f"Rule: {RULE}.",
    ]
