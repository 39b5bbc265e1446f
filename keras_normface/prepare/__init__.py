"""From photos as they are distributed to data that training reads: aligned, checked, in shards."""

from keras_normface.prepare._align import NO_FACE_CHOICES, align_images
from keras_normface.prepare._align_log import AlignReport
from keras_normface.prepare._faces import Face, Mtcnn, chosen_face, similarity, template_points, template_size
from keras_normface.prepare._output import OutputError
from keras_normface.prepare._photos import ENCODINGS, InvalidImageError, validated_size
from keras_normface.prepare._shards import IMAGES_PER_SHARD, prepare_shards

__all__ = [
    "ENCODINGS",
    "IMAGES_PER_SHARD",
    "NO_FACE_CHOICES",
    "AlignReport",
    "Face",
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
