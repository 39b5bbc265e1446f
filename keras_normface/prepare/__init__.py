"""From photos as they are distributed to data that training reads: aligned, checked, in shards.

Two steps, each optional, each resumable after a kill with the same files as an undisturbed run, byte for byte:

1. `align_images` finds the face in each photo (`Mtcnn`, or any function from images to lists of `Face`), brings its
   five points to a template by a similarity, and writes a tree of small images with a log and an `AlignReport`.
2. `prepare_shards` writes the encoded images of a reader as TFRecord shards for `data.TFRecordShards`. With
   `validate=True`, `validated_size` decodes each image, and what cannot be used is excluded and listed.

One run at a time writes to a directory: it holds a lock there. A directory that was begun with other settings, or that
holds other files, is an `OutputError`.

`FaceAligner` does the first step in memory, for `inference.Embedder`.

Reading order: `_faces` (templates, similarity), `_detector` over `_detector_networks`, `_photos` (decode, check, warp,
encode), `_aligner`, `_align` with `_align_log`, then `_shards` (the plan and the metadata) and `_workers` (one shard);
`_output` is the lock.
"""

from keras_normface.prepare._align import NO_FACE_CHOICES, align_images
from keras_normface.prepare._align_log import AlignReport
from keras_normface.prepare._aligner import FaceAligner
from keras_normface.prepare._detector import Mtcnn
from keras_normface.prepare._faces import Face, chosen_face, similarity, template_points, template_size
from keras_normface.prepare._output import OutputError
from keras_normface.prepare._photos import ENCODINGS, InvalidImageError, validated_size
from keras_normface.prepare._shards import IMAGES_PER_SHARD, prepare_shards

__all__ = [
    "ENCODINGS",
    "IMAGES_PER_SHARD",
    "NO_FACE_CHOICES",
    "AlignReport",
    "Face",
    "FaceAligner",
    "InvalidImageError",
    "Mtcnn",
    "OutputError",
    "align_images",
    "chosen_face",
    "prepare_shards",
    "similarity",
    "template_points",
    "template_size",
    "validated_size",
]
