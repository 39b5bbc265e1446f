"""Readers of face images, and training data that can start at any step of any epoch."""

from keras_normface.data._batches import ArrayBatches, ImageBatches, ResumableData
from keras_normface.data._folder import EXTENSIONS, IdentityFolder
from keras_normface.data._image_list import ImageList
from keras_normface.data._images import Augmentation, center_crop, decode_image, resize_image
from keras_normface.data._open import READERS, guess_format, open_reader
from keras_normface.data._pairs import PairFile, PairFileError, read_pair_file
from keras_normface.data._pickle import UnsafePickleError
from keras_normface.data._reader import CASIA_LFW_OVERLAP, Reader
from keras_normface.data._recordio import RecordError, RecordIO
from keras_normface.data.shards import MetadataError, TFRecordShards

__all__ = [
    "CASIA_LFW_OVERLAP",
    "EXTENSIONS",
    "READERS",
    "ArrayBatches",
    "Augmentation",
    "IdentityFolder",
    "ImageBatches",
    "ImageList",
    "MetadataError",
    "PairFile",
    "PairFileError",
    "Reader",
    "RecordError",
    "RecordIO",
    "ResumableData",
    "TFRecordShards",
    "UnsafePickleError",
    "center_crop",
    "decode_image",
    "guess_format",
    "open_reader",
    "read_pair_file",
    "resize_image",
]
