"""Images a second of the training pipelines, against bare JPEG decoding in the same process.

Generates JPEGs of 112 x 112 pixels with the statistics of natural images (a spectrum that falls like 1/f), stores
them in the three shapes, and reads them in training order: shuffled, decoded, mirrored, scaled, in batches. The floor
is `tf.io.decode_jpeg` on encoded images in memory, whose pixels are dropped. Variants take turns, round after round,
so that other jobs on the machine disturb all alike; the last column is by how much the resident memory of this
process grew from a variant's second round to its last.

Examples:
    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --images 20000 --rounds 5 --keep /tmp/faces
"""

import argparse
import io
import statistics
import struct
import tempfile
import time
from pathlib import Path

import numpy as np

IDENTITIES, SIZE, BATCH, QUALITY = 200, 112, 256, 80


def natural_images(count, rng):
    """Coloured noise with a 1/f amplitude spectrum, uint8 `(count, SIZE, SIZE, 3)`."""
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / SIZE)
    shape = (count, 3, SIZE, SIZE // 2 + 1)
    noise = np.fft.irfft2((rng.normal(size=shape) + 1j * rng.normal(size=shape)) * amplitude, s=(SIZE, SIZE))
    mix = np.array([[1, 0.12, 0.05], [1, 0, -0.05], [1, -0.12, 0.08]])  # luminance varies most
    pixels = np.einsum("cd,ndhw->nhwc", mix, noise)
    pixels *= 45 / pixels.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(pixels + 120, 0, 255).astype("uint8")


def encoded_images(count):
    """Yield encoded JPEGs."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for start in range(0, count, 500):
        for pixels in natural_images(min(500, count - start), rng):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
            yield buffer.getvalue()


def write_shapes(root, count):
    """Write the images as a folder, as RecordIO and as shards, unless they are there."""
    from keras_normface.data import IdentityFolder
    from keras_normface.prepare import prepare_shards

    if not (root / "train.idx").exists():
        offset, each = 0, count // IDENTITIES
        with open(root / "train.rec", "wb") as records, open(root / "train.idx.part", "w") as index:
            for number, image in enumerate(encoded_images(count)):
                person = root / "folder" / f"{number // each:07d}"
                person.mkdir(parents=True, exist_ok=True)
                (person / f"{number % each:03d}.jpg").write_bytes(image)
                payload = struct.pack("<IfQQ", 0, number // each, number, 0) + image
                record = struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)
                records.write(record)
                index.write(f"{number}\t{offset}\n")
                offset += len(record)
        (root / "train.idx.part").rename(root / "train.idx")
    if not (root / "shards/dataset.json").exists():
        prepare_shards(IdentityFolder(root / "folder"), root / "shards")


def bare_decoding(images):
    """Decode what is in memory already, and drop the pixels: an element has the heights of a batch of images."""
    import tensorflow as tf

    encoded = tf.data.Dataset.from_tensor_slices(tf.constant(images))
    heights = encoded.map(
        lambda image: tf.shape(tf.io.decode_jpeg(image, channels=3))[0], num_parallel_calls=tf.data.AUTOTUNE
    )
    return heights.batch(BATCH, drop_remainder=True).prefetch(2), BATCH


def obvious_pipeline(root):
    """What a tutorial writes: list files, read, decode, flip, scale, batch."""
    import tensorflow as tf

    files = tf.data.Dataset.list_files(str(root / "folder/*/*.jpg"), seed=0)

    def load(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return (tf.cast(tf.image.random_flip_left_right(image), tf.float32) - 127.5) / 128.0

    loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return loaded.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE), BATCH


def torch_loader(root):
    """PyTorch's DataLoader with Pillow and two workers, or `None` without torch."""
    try:
        import torch
    except ImportError:
        return None
    from PIL import Image

    class Folder(torch.utils.data.Dataset):
        """The same files."""

        def __init__(self):
            self.paths = sorted((root / "folder").glob("*/*.jpg"))

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            pixels = np.asarray(Image.open(self.paths[index]).convert("RGB"))
            pixels = pixels[:, ::-1] if np.random.rand() < 0.5 else pixels
            return torch.from_numpy((pixels.astype("float32") - 127.5) / 128.0)

    loader = torch.utils.data.DataLoader(Folder(), BATCH, shuffle=True, num_workers=2, drop_last=True)
    return loader, BATCH


def variants(root):
    """Names and functions that make an epoch's iterable and say how many images an element has."""
    from keras_normface import Preprocessing
    from keras_normface.data import IdentityFolder, ImageBatches, RecordIO, TFRecordShards

    readers = {
        "RecordIO": RecordIO(root / "train.rec"),
        "TFRecordShards": TFRecordShards(root / "shards"),
        "IdentityFolder": IdentityFolder(root / "folder"),
    }
    images = readers["RecordIO"].encoded(range(len(readers["RecordIO"])))
    print(f"{len(images)} images of {np.mean([len(image) for image in images]) / 1000:.1f} KB on average", flush=True)

    def ours(reader, scale):
        data = ImageBatches(reader, BATCH, Preprocessing(), seed=0, scale=scale)
        return lambda epoch: (data(epoch, 0), BATCH)

    made = {"bare decode_jpeg, in memory": lambda epoch: bare_decoding(images)}
    for name, reader in readers.items():
        made[f"{name}, float32"] = ours(reader, True)
        made[f"{name}, uint8 (model scales)"] = ours(reader, False)
    made["tutorial's tf.data on files"] = lambda epoch: obvious_pipeline(root)
    if torch_loader(root) is not None:
        made["PyTorch DataLoader on files"] = lambda epoch: torch_loader(root)
    return made


def rate(iterable, images_each):
    """Images a second, after the first element, which waits for everything to start."""
    iterator = iter(iterable)
    next(iterator)
    start, elements = time.perf_counter(), 0
    for _ in iterator:
        elements += 1
    return elements * images_each / (time.perf_counter() - start)


def resident_megabytes():
    """Resident memory of this process now."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def seconds_to_enter_at_step_a_million():
    """How long the first batch of step 10^6 takes to come, of ten million samples."""
    from keras_normface import Preprocessing
    from keras_normface.data import ImageBatches, Reader

    image = next(encoded_images(1))

    class Many(Reader):
        """Ten million times the same image."""

        path, identities, labels = "memory", ["nobody"], np.zeros(10**7, "int32")

        def name(self, index):
            return str(index)

        def _read(self, indices):
            return [image] * len(indices)

    data = ImageBatches(Many(), 8, Preprocessing(), seed=0)
    start = time.perf_counter()
    next(iter(data(0, 10**6)))
    return time.perf_counter() - start


def main():
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help=f"how many, a multiple of {IDENTITIES}")
    parser.add_argument("--rounds", type=int, default=4, help="the first warms up; the median of the rest counts")
    parser.add_argument("--keep", type=Path, help="directory for the images, used again by the next run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        write_shapes(root, arguments.images)
        measured, memory = {}, {}
        made = variants(root)
        for epoch in range(arguments.rounds):
            for name, make in made.items():
                measured.setdefault(name, []).append(rate(*make(epoch)))
                memory.setdefault(name, []).append(resident_megabytes())
    floor = statistics.median(measured["bare decode_jpeg, in memory"][1:])
    print("| pipeline | images/s | to bare decoding | MB grown |\n|---|--:|--:|--:|")
    for name, rates in measured.items():
        middle, (first, last) = statistics.median(rates[1:]), (memory[name][1], memory[name][-1])
        print(f"| {name} | {middle:,.0f} | {middle / floor:.2f} | {last - first:+.0f} |")
    print(f"first batch of step 10^6 of 10^7 samples: {seconds_to_enter_at_step_a_million():.2f} s")


if __name__ == "__main__":
    main()
