"""From files of face images to training batches.

A *reader* gives encoded images and labels by number, whatever the files are: a folder of identities, a list, RecordIO
or TFRecord shards. *Training data* turn a reader into batches that can be entered at any step of any epoch; the order
and the augmentation follow from a seed, so that a resumed training sees the same images. Files may come from
anywhere: no name and no link leads out of the data set's directory, nothing in a pickle runs, and errors name file
and place.

The five that matter: `open_reader` (the reader of a path, by its content), `Reader` (what all readers have in common,
and the base of your own), `ImageBatches` (decoded, cropped, augmented and scaled batches for `fit_resumable`),
`ArrayBatches` (the same from arrays in memory), and `read_pair_file` (verification pairs in InsightFace's `.bin`
form). `decode_image`, `resize_image` and `center_crop` are the functions by which training, evaluation and embedding
read images.

Order to read: `_reader` (the interface), `_folder` (the shortest reader), `_image_list`, `_recordio`,
`_tfrecord_shards` with `shards` (the files of a directory of shards, for those who write them), `_open`; then
`_images`, `_plans` and `_batches`; `_array_batches`; `_pairs` with `_pickle` (the restricted unpickler) stand alone.
"""

from keras_normface.data._array_batches import ArrayBatches
from keras_normface.data._batches import ImageBatches, ResumableData
from keras_normface.data._folder import EXTENSIONS, PHOTO_EXTENSIONS, IdentityFolder
from keras_normface.data._image_list import ImageList
from keras_normface.data._images import Augmentation, center_crop, decode_image, resize_image
from keras_normface.data._open import READERS, guess_format, open_reader
from keras_normface.data._pairs import PairFile, PairFileError, read_pair_file
from keras_normface.data._pickle import UnsafePickleError
from keras_normface.data._reader import CASIA_LFW_OVERLAP, Reader
from keras_normface.data._recordio import RecordError, RecordIO
from keras_normface.data._tfrecord_shards import TFRecordShards
from keras_normface.data.shards import MetadataError

__all__ = [
    "CASIA_LFW_OVERLAP",
    "EXTENSIONS",
    "PHOTO_EXTENSIONS",
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
