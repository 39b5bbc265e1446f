"""YouTube Faces: `splits.txt` and the directories of frames."""

import os

import numpy as np

from keras_normface.data.contained import ContainedFiles
from keras_normface.data.identity_folder import EXTENSIONS
from keras_normface.evaluation.video_pairs import VideoPairProtocol
from keras_normface.protocols.pair_table import PairTable, pairs_name
from keras_normface.protocols.text_lines import ProtocolFileError, numbered_lines


def read_ytf(path, root, name="YTF"):
    r"""Read the pairs of videos of YouTube Faces and list their frames.

    After a line of headings, each line is `split, number, video, video, is same`, with videos such as `Ada_Lovelace/2`.
    A video's frames are the images in its directory below `root`, in the order of their sorted names.

    Args:
        path: The file, `splits.txt`.
        root: The directory that holds the videos' directories, such as `frame_images_DB` or one of aligned faces.
        name: What the protocol is called; the numbers of pairs and folds are added.

    Returns:
        A `VideoPairProtocol` with the splits as folds. Its images are the frames' paths below `root`.

    Raises:
        ProtocolFileError: If the file is not in this form, repeats a number within a split, or contradicts the persons,
            or a video has no directory or no frames; file and line are named.
        OSError: If something cannot be read.

    Source: Wolf, Hassner, Maoz 2011, "Face Recognition in Unconstrained Videos with Matched Background Similarity".

    Example:
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> for frame in ["Ada/1/1.1.jpg", "Ada/1/1.2.jpg", "Ada/3/3.7.jpg", "Bob/0/0.1.jpg"]:
    ...     os.makedirs(os.path.dirname(os.path.join(root, frame)), exist_ok=True)
    ...     open(os.path.join(root, frame), "wb").close()
    >>> path = os.path.join(root, "splits.txt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("split number, pair number, first name, second name, is same\n")
    ...     _ = file.write("1, 1, Ada/1, Bob/0, 0\n2, 1, Ada/1, Ada/3, 1\n")
    >>> protocol = read_ytf(path, root)
    >>> protocol.images, protocol.videos[0].tolist(), protocol.same.tolist()
    (('Ada/1/1.1.jpg', 'Ada/1/1.2.jpg', 'Bob/0/0.1.jpg', 'Ada/3/3.7.jpg'), [0, 1], [False, True])
    """
    table, seen, line = PairTable(), {}, None
    for line in numbered_lines(path):
        fields = [field.strip() for field in line.text.split(",")]
        if line.number == 1 and not fields[0].isdigit():
            continue
        _add(table, line, fields, seen)
    if not len(table):
        raise ProtocolFileError(f"{os.fspath(path)} holds no pairs")
    pairs = table.columns()
    files, images, videos = ContainedFiles(root), [], []
    for video in pairs["images"]:
        frames = _frames(files, video, path, seen[video])
        videos.append(np.arange(len(images), len(images) + len(frames)))
        images += frames
    return VideoPairProtocol(
        name=pairs_name(name, len(table), len(np.unique(pairs["folds"]))),
        images=tuple(images),
        videos=tuple(videos),
        subjects=np.repeat(pairs["subjects"], [len(frames) for frames in videos]),
        **{column: pairs[column] for column in ("left", "right", "same", "folds")},
    )


def _add(table, line, fields, seen):
    if len(fields) != 5:
        raise line.error("must hold five fields with commas between them: split, number, video, video, is same")
    split = line.whole_number(fields[0], "the split", 1)
    number = line.whole_number(fields[1], "the number of the pair")
    left, right = (_video(line, field) for field in fields[2:4])
    if (split, number) in seen:
        raise line.error(f"repeats pair {number} of split {split}, which is in line {seen[split, number]}")
    if fields[4] not in ("0", "1") or (fields[4] == "1") != (left[1] == right[1]):
        raise line.error("must end with 1 if both videos are of one person, and with 0 if not")
    if left == right:
        raise line.error("must name two videos")
    seen[split, number] = line.number
    seen.setdefault(left[0], line.number)
    seen.setdefault(right[0], line.number)
    table.add(left, right, split - 1)


def _video(line, text):
    video = line.relative_path(text)
    if video.count("/") != 1:
        raise line.error("must name videos by person and number, such as Ada_Lovelace/2")
    return video, video.split("/")[0]


def _frames(files, video, path, number):
    """Return the names of a video's frames, sorted, with the video's directory before them."""
    where = f"line {number} of {os.fspath(path)}"
    try:
        files.check(video)
        names = sorted(
            entry.name
            for entry in os.scandir(os.path.join(files.root, video))
            if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".")
        )
    except (OSError, ValueError) as error:
        raise ProtocolFileError(f"{where} names the video {video}, which is not in {files.root}: {error}") from error
    if not names:
        raise ProtocolFileError(f"{where} names the video {video}, which has no frames in {files.root}")
    return [f"{video}/{name}" for name in names]
