"""What training takes from another model: its embeddings of the training images, made once and kept in OUT/teacher.

A teacher's go beside the labels; an older model's become class centres that stay, so that both can be compared.
"""

import os

from keras_normface.cli._choices import READY_NETWORKS
from keras_normface.cli._console import progress_bar, say
from keras_normface.cli._verify_run import open_embedder
from keras_normface.heads import FixedCentersHead
from keras_normface.layers import LearnableScale
from keras_normface.recipes import serialized
from keras_normface.training import class_means, reader_embeddings

CACHE, OLDER = "teacher", "FixedCentersHead"


def opened(model, option, **options):
    """Name of a ready network or directory of an exported model → its `Embedder` of aligned faces."""
    if model not in READY_NETWORKS and not os.path.isdir(model):
        names = " or ".join(READY_NETWORKS)
        raise ValueError(f"{option} must be {names}, or the directory of an exported model. Received: {model}")
    return open_embedder(model, aligned=True, resize=False, **options)


def distillation_heads(recipe):
    """The configs of a recipe's heads that a teacher's embeddings are for."""
    return [head["config"] for head in recipe.heads if head["class_name"] == "DistillationHead"]


def checked_teacher(recipe, request):
    """The `Embedder` of --teacher, or `None`; a recipe that needs one, or has no use for it, is refused."""
    heads = distillation_heads(recipe)
    if request.teacher is None:
        if heads:
            raise ValueError(
                f"{recipe.name} distils another model: give --teacher dlib, or the directory of an exported one"
            )
        return None
    if not heads:
        raise ValueError(
            "--teacher needs a recipe with a DistillationHead, such as mobilefacenet_distilled. "
            f"Received: {recipe.name}"
        )
    embedder = opened(request.teacher, "--teacher", center_crop=bool(request.center_crop))
    wanted = {head.get("dim") or recipe.embedding_dim for head in heads}
    if embedder.dimension is not None and wanted != {embedder.dimension}:
        raise ValueError(
            f"--teacher {request.teacher} makes {embedder.dimension} numbers of a face, {recipe.name} "
            f"{recipe.embedding_dim}: give --set embedding_dim={embedder.dimension}, or "
            f"--set heads.N.config.dim={embedder.dimension} for a learned map from the pupil's to the teacher's"
        )
    return embedder


def embeddings_of(embedder, reader, request, option, center=False):
    """(images, dim) float32 rows of another model for the images of a reader, from OUT/teacher where they are."""
    try:
        with progress_bar(f"images embedded by {os.path.basename(os.path.normpath(embedder.name))}") as progress:
            return reader_embeddings(embedder, reader, cache=request.out / CACHE, center=center, progress=progress)
    except ValueError as error:
        raise ValueError(f"{option} {embedder.name}: {error}") from error


def with_teacher(recipe, data, embedder, request):
    """Training data → the same, with the teacher's embeddings beside the labels."""
    rows = embeddings_of(embedder, data.reader, request, "--teacher", center=request.center_teacher)
    say(f"{len(rows):,} images embedded by the teacher, {rows.shape[1]} numbers each")
    options = {"center_crop": data.center_crop, "resize": data.resize, "teacher": rows}
    return recipe.data(data.reader, request.seed, **options)


def checked_older(recipe, request):
    """The recipe with a head for the class centres of --compatible-with, and that model's `Embedder`, or `None`."""
    if request.compatible_with is None:
        return recipe, None
    embedder = opened(request.compatible_with, "--compatible-with", center_crop=bool(request.center_crop))
    if embedder.dimension not in (None, recipe.embedding_dim):
        raise ValueError(
            f"--compatible-with {request.compatible_with} makes {embedder.dimension} numbers of a face, {recipe.name} "
            f"{recipe.embedding_dim}: only embeddings of one dimension can be compared; give --set "
            f"embedding_dim={embedder.dimension}"
        )
    if any(head["class_name"] == OLDER for head in recipe.heads):
        return recipe, embedder
    scale = serialized(LearnableScale, initial_value=10.0, minimum=0.01)
    heads = [*recipe.heads, serialized(FixedCentersHead, scale=scale)]
    weights = [*(recipe.head_weights or [1.0] * len(recipe.heads)), 1.0]
    return recipe.replace(heads=heads, head_weights=weights), embedder


def set_older_centers(model, data, embedder, request):
    """Give the head of the older model's class centres the means of its embeddings."""
    rows = embeddings_of(embedder, data.reader, request, "--compatible-with")
    (head,) = (head for head in model.heads if isinstance(head, FixedCentersHead))
    head.set_centers(class_means(rows, data.reader.labels, head.units))
    say(f"Class centres of {embedder.name} from {len(rows):,} images: they stay as they are")


def facts(teacher, older, request):
    """What run.json records of a teacher and of an older model."""
    found = {}
    if teacher is not None:
        name = os.path.basename(os.path.normpath(teacher.name))
        found["teacher"] = f"{name} {teacher.fingerprint}{', centred' if request.center_teacher else ''}"
    if older is not None:
        found["compatible_with"] = older.fingerprint
    return found
