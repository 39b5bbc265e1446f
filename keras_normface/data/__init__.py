"""Readers of face images, and training data that can start at any step of any epoch."""

from keras_normface.data.augmentation import Augmentation
from keras_normface.data.center_crop import cut_in_the_middle
from keras_normface.data.exclusion import CASIA_LFW_OVERLAP
from keras_normface.data.identity_folder import IdentityFolder
from keras_normface.data.image_batches import ImageBatches
from keras_normface.data.image_list import ImageList
from keras_normface.data.in_memory import InMemory
from keras_normface.data.open_reader import open_reader
from keras_normface.data.pair_file import PairFile, PairFileError, read_pair_file
from keras_normface.data.pickle_scan import UnsafePickleError
from keras_normface.data.protocol import ResumableData
from keras_normface.data.reader import Reader
from keras_normface.data.record_file import RecordError
from keras_normface.data.record_io import RecordIO
from keras_normface.data.sidecar import SidecarError
from keras_normface.data.tfrecord_shards import TFRecordShards

__all__ = [
    "CASIA_LFW_OVERLAP",
    "Augmentation",
    "IdentityFolder",
    "ImageBatches",
    "ImageList",
    "InMemory",
    "PairFile",
    "PairFileError",
    "Reader",
    "RecordError",
    "RecordIO",
    "ResumableData",
    "SidecarError",
    "TFRecordShards",
    "UnsafePickleError",
    "cut_in_the_middle",
    "open_reader",
    "read_pair_file",
]
