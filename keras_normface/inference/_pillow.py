"""Aligned faces decoded by Pillow, for the models that run without TensorFlow."""

import io
import warnings

import numpy as np

FORMATS = ("BMP", "GIF", "JPEG", "PNG")


def decoded_face(encoded, name):
    """Bytes → (height, width, 3) uint8 RGB as `decode_image` gives: alpha is dropped, EXIF data are not regarded."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Decoding images needs Pillow: pip install 'keras-normface[align]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd files that are read all the same
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                if image.mode.startswith("I"):  # 16 bits
                    return np.repeat((np.asarray(image).astype("int64") >> 8).astype("uint8")[..., None], 3, axis=-1)
                return np.array(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Decoders have many for corrupt files: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"{name} cannot be decoded: {' '.join(str(error).split())[:200]}") from error


def resized_face(pixels, size):
    """(h, w, 3) uint8 → (*size, 3), bilinear with antialiasing; one that has the size stays as it is."""
    from PIL import Image

    if pixels.shape[:2] == tuple(size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def cropped_face(pixels, size):
    """(h, w, 3) → its middle of at most this size."""
    top, left = (max((have - want) // 2, 0) for have, want in zip(pixels.shape[:2], size, strict=True))
    return pixels[top : top + size[0], left : left + size[1]]
