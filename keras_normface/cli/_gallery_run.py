"""What `enrol`, `identify` and `gallery` do once their options are checked."""

import contextlib
import os

from keras_normface._io import json_text, printable
from keras_normface.cli._console import say
from keras_normface.cli._embed_run import SHOWN_NAMES, list_images
from keras_normface.cli._verify_run import open_embedder
from keras_normface.data import EXTENSIONS, PHOTO_EXTENSIONS, IdentityFolder
from keras_normface.gallery import Gallery


def images_of(sources, aligned):
    """Photos and folders → paths of the images, in that order, and how many files in the folders are of other kinds."""
    paths, others = [], 0
    for source in sources:
        images, skipped = list_images([source], aligned)
        paths += [os.path.join(source, name) for name, _ in images] if source.is_dir() else [os.fspath(source)]
        others += skipped
    return paths, others


def subjects_of(sources, name, aligned):
    """Sources → {name of a person: paths of images}, and how many files are of other kinds."""
    if name is not None:
        images, others = images_of(sources, aligned)
        return {name: images}, others
    (source,) = sources
    folder, subjects = IdentityFolder(source, extensions=EXTENSIONS if aligned else PHOTO_EXTENSIONS), {}
    for index, label in enumerate(folder.labels.tolist()):
        subjects.setdefault(folder.identities[label], []).append(os.path.join(source, folder.name(index)))
    return subjects, len(folder.ignored)


@contextlib.contextmanager
def opened(path, model, *, new, skip_no_face, aligned, index="auto", **options):
    """A gallery with the `Embedder` of a model, made only if it may be `new`."""
    if not new:
        with stored(path):
            pass
    no_face = "nan" if skip_no_face and not aligned else "error"
    with Gallery(path, open_embedder(model, aligned=aligned, no_face=no_face, **options), index=index) as gallery:
        yield gallery


@contextlib.contextmanager
def stored(path):
    """A gallery without a model."""
    with Gallery(path) as gallery:
        yield gallery


def faults_of(path):
    """What is wrong with a gallery, in words, and how many people are in it: "?" where that cannot be read."""
    try:
        with Gallery(path) as gallery:
            faults = gallery.check()
            return faults, "?" if faults else f"{len(gallery):,}"
    except ValueError as error:
        return [str(error)], "?"


def why_not_overwritten(path):
    """What is said after a removal that left something behind."""
    if "://" in path:
        return "The server keeps what was deleted in its files until it is vacuumed and overwritten, and in its backups"
    return "Another process uses the gallery, or the disk is full: it is overwritten at the next change"


def index_of(path, progress):
    """The `IndexStatus` of a gallery whose index is built."""
    with Gallery(path) as gallery:
        return gallery.build_index(progress=progress)


def list_without_face(done):
    """Name the first photos that were not enrolled."""
    without = [os.path.normpath(name) for name in done.without_face]
    if without:
        more = "" if len(without) <= SHOWN_NAMES else f" and {len(without) - SHOWN_NAMES:,} more"
        say(f"{len(without):,} photos hold no face that is found: {', '.join(without[:SHOWN_NAMES])}{more}", err=True)


def enrolment_summary(gallery, subjects, done):
    """The rows of the table."""
    return [
        ("people given", f"{len(subjects):,}"),
        ("enrolled now", f"{done.new:,}"),
        ("enrolled before", f"{done.known:,}"),
        ("without a face", f"{len(done.without_face):,}"),
        ("people in the gallery", f"{len(gallery):,}"),
        ("model", f"{os.path.basename(os.path.normpath(gallery.embedder.name))} ({gallery.fingerprint[:16]})"),
    ]


def limit_of(gallery, threshold, fpir, method):
    """The threshold that was given, or the `IdentificationThreshold` of a rate, or `None` for that of the model."""
    if fpir is not None:
        return gallery.threshold_at_fpir(fpir, method=method)
    if threshold is None and gallery.embedder.threshold is None:
        raise ValueError(
            f"{gallery.embedder.name} comes without a threshold: give one with --threshold, or a rate with --fpir"
        )
    return threshold


def identified(gallery, images, limit, every_face, count, progress):
    """Paths of images → (path, [(box or `None`, `Identification`)]): nothing without a face; a text says what fails."""
    work, answers = _of_every_face if every_face else _of_large_faces, []
    options = {"threshold": limit, "count": count}
    step = 1 if every_face else gallery.embedder.batch_size
    for start in range(0, len(images), step):
        part = images[start : start + step]
        try:
            answers += zip(part, work(gallery, part, options), strict=True)
        except ValueError:
            answers += [(path, _alone(work, gallery, path, options)) for path in part]
        progress(len(answers), len(images))
    return answers


def _of_large_faces(gallery, paths, options):
    return [[] if one is None else [(None, one)] for one in gallery.identify_many(paths, **options)]


def _of_every_face(gallery, paths, options):
    (path,) = paths
    faces, rows = gallery.embedder.embed_every_face(path)
    found = gallery.identify_many(rows, **options) if faces else []
    return [list(zip([face.box for face in faces], found, strict=True))]


def _alone(work, gallery, path, options):
    try:
        (found,) = work(gallery, [path], options)
    except ValueError as error:
        return " ".join(str(error).split())
    return found


def as_text(answers, limit):
    """A line for each face: the photo, and who it is."""
    lines = [str(limit)[:1].upper() + str(limit)[1:]] if hasattr(limit, "fpir") else []
    for name, found in answers:
        if isinstance(found, str):
            lines.append(f"{printable(name)}: error: {printable(found)}")
        else:
            lines += [f"{printable(name)}: {_place(box)}{one}" for box, one in found] or [f"{printable(name)}: no face"]
    return "\n".join(lines)


def _place(box):
    return "" if box is None else f"face at {box[0]:.0f},{box[1]:.0f}: "


def as_json(gallery, answers, limit):
    """All answers as JSON, with the threshold and what it is worth."""
    threshold = gallery.embedder.threshold if limit is None else limit
    worth = {"cosine": getattr(threshold, "cosine", threshold)}
    for key in ("fpir", "method", "num_subjects", "num_probes", "achieved_fpir", "far", "achieved_far"):
        if hasattr(threshold, key):
            worth[key] = getattr(threshold, key)
    photos = [{"image": name, **_answer(found)} for name, found in answers]
    status = gallery.index_status()
    search = {"exact": not status.in_use, "recall": status.recall if status.in_use else 1.0}  # a server's: not known
    head = {"gallery": gallery.path, "fingerprint": gallery.fingerprint, "subjects": len(gallery), "search": search}
    return json_text({**head, "threshold": worth, "photos": photos}).rstrip("\n")


def _answer(found):
    """What was found in a photo → what JSON holds of it."""
    if isinstance(found, str):
        return {"error": found}
    faces = []
    for box, one in found:
        candidates = [{"name": each.name, "score": each.score} for each in one.candidates]
        faces.append({**({} if box is None else {"box": list(box)}), "name": one.name, "candidates": candidates})
    return {"faces": faces}
