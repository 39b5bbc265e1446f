"""From photos as they are distributed to data that training reads: aligned, checked, in shards."""

from keras_normface.prepare.align import align_images
from keras_normface.prepare.align_report import AlignReport
from keras_normface.prepare.face_detection import Face, Mtcnn, chosen_face
from keras_normface.prepare.output import OutputError
from keras_normface.prepare.shards import prepare_shards
from keras_normface.prepare.templates import similarity, template_points, template_size
from keras_normface.prepare.validate import InvalidImageError, validated_size

__all__ = [
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
