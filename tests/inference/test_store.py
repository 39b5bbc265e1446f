"""Embeddings of images by an exported model: against the model itself, from the cache, and from files."""

import dataclasses
import errno
import io
import os
import pickle
import shutil
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from keras_normface import Preprocessing
from keras_normface.inference import (
    CalibratedThreshold,
    Embedder,
    embed_blocks,
    embed_images,
    load_embeddings,
    model_fingerprint,
    named_rows,
    read_card,
    save_embeddings,
    write_card,
)
from tests.support import products


def aligned(model, **options):
    """An embedder of aligned faces."""
    return Embedder(model, faces="aligned", **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("product") / "a", seed=0)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("product") / "b", seed=1)


@pytest.fixture(scope="module")
def fusing_model(tmp_path_factory):
    return products.export(tmp_path_factory.mktemp("product") / "c", seed=0, flip="sum")


@pytest.fixture
def files(tmp_path):
    names = [f"{person}/{image}.png" for person in ("Ada", "Bob", "Eve") for image in range(3)]
    return [(name, products.write_face(tmp_path / "faces", name, name[:3], int(name[4]))) for name in names]


@pytest.fixture
def small_chunks(monkeypatch):
    import importlib

    monkeypatch.setattr(importlib.import_module("keras_normface.inference._store"), "CHUNK_IMAGES", 4)


def expected(model, images, mirror=False):
    """The SavedModel on pixels that Pillow decoded, one image at a time."""
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(model))
    rows = []
    for _, image in images:
        content = image if isinstance(image, bytes) else image.read_bytes()
        pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
        rows.append(loaded.serve((pixels[:, ::-1] if mirror else pixels)[None]).numpy()[0])
    return np.array(rows)


def test_each_image_gets_what_the_model_makes_of_its_pixels(model, files):
    calls = []
    images = [*files[:5], ("in memory", products.face("Joe", 0))]
    embedded = embed_images(
        aligned(model, batch_size=4), images, mirror="both", progress=lambda *counts: calls.append(counts)
    )
    np.testing.assert_allclose(embedded.front, expected(model, images), atol=1e-6)
    np.testing.assert_allclose(embedded.mirrored, expected(model, images, mirror=True), atol=1e-6)
    assert embedded.front.dtype == np.float32
    assert calls[-1] == (12, 12)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert embed_images(aligned(model), files).mirrored is None


def test_a_second_run_embeds_nothing_and_a_mirror_only_what_is_new(model, files, tmp_path, small_chunks):
    first = aligned(model, batch_size=4)
    front = embed_images(first, files, cache=tmp_path / "cache").front
    assert first.embedded == 9
    second = aligned(model, batch_size=4)
    again = embed_images(second, files, mirror="both", cache=tmp_path / "cache")
    assert second.embedded == 9  # the mirror images alone
    np.testing.assert_array_equal(again.front, front)
    third = aligned(model)
    embed_images(third, files, mirror="both", cache=tmp_path / "cache")
    assert third.embedded == 0


def test_another_model_never_uses_the_cache(model, other_model, files, tmp_path):
    embed_images(aligned(model), files, cache=tmp_path / "cache")
    other = aligned(other_model)
    found = embed_images(other, files, cache=tmp_path / "cache").front
    assert other.embedded == 9
    np.testing.assert_allclose(found, expected(other_model, files), atol=1e-6)


def test_a_changed_image_is_embedded_anew_with_its_chunk_alone(model, files, tmp_path, small_chunks):
    embed_images(aligned(model), files, cache=tmp_path / "cache")
    products.write_face(tmp_path / "faces", files[5][0], "Somebody", 7)
    os.utime(files[5][1], ns=(10, 10))
    embedder = aligned(model)
    found = embed_images(embedder, files, cache=tmp_path / "cache").front
    assert embedder.embedded == 4
    np.testing.assert_allclose(found, expected(model, files), atol=1e-6)


def test_a_file_replaced_with_its_size_and_time_kept_is_embedded_anew(model, files, tmp_path, small_chunks):
    _, path = files[5]
    with open(path, "rb") as file:
        before = file.read()
    after = products.face("Somebody", 7)
    length = max(len(before), len(after))
    for number, content in enumerate((before, after)):
        with open(path, "wb") as file:
            file.write(content.ljust(length, b"\0"))
        os.utime(path, ns=(10, 10))
        embedder = aligned(model)
        found = embed_images(embedder, files, cache=tmp_path / "cache").front
        assert embedder.embedded == (len(files), 4)[number]
        np.testing.assert_allclose(found, expected(model, files), atol=1e-6)
    os.utime(path)
    embed_images(embedder, files, cache=tmp_path / "cache")
    assert embedder.embedded == 4


def test_images_in_memory_are_told_by_their_bytes(model, tmp_path):
    one, two = (("0", products.face(person, 0)) for person in ("Ada", "Bob"))
    embed_images(aligned(model), [one], cache=tmp_path / "cache")
    embedder = aligned(model)
    found = embed_images(embedder, [two], cache=tmp_path / "cache").front
    assert embedder.embedded == 1
    np.testing.assert_allclose(found, expected(model, [two]), atol=1e-6)
    embed_images(embedder, [one], cache=tmp_path / "cache")
    assert embedder.embedded == 1


def test_a_run_that_was_killed_goes_on(model, files, tmp_path, small_chunks):
    embedder, done = aligned(model, batch_size=4), []

    def killed(count, total):
        done.append(count)
        if count >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_images(embedder, files, cache=tmp_path / "cache", progress=killed)
    again = aligned(model)
    found = embed_images(again, files, cache=tmp_path / "cache").front
    assert again.embedded == 5  # of three chunks of 4, 4 and 1 the first was stored
    np.testing.assert_allclose(found, expected(model, files), atol=1e-6)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "pickle", "empty", "swapped", "huge"])
def test_a_damaged_chunk_is_made_anew_with_a_warning(model, files, tmp_path, small_chunks, damage):
    before = embed_images(aligned(model), files, cache=tmp_path / "cache").front
    chunks = sorted((tmp_path / "cache").glob("*/*.npz"), key=lambda path: path.stat().st_size)
    content = bytearray(chunks[-1].read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array("k"), embeddings=np.array([{"a": 1}], dtype=object))
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as file:
        file.writestr("embeddings.npy", made_up(f"({10**14}, 4)"))
    damaged = {
        "huge": huge.getvalue(),
        "cut": content[:-40],
        "flipped": content,
        "text": b"nothing",
        "pickle": buffer.getvalue(),
        "empty": b"",
        "swapped": chunks[0].read_bytes(),
    }
    chunks[-1].write_bytes(damaged[damage])
    embedder = aligned(model)
    with pytest.warns(UserWarning, match="corrupt and computed again"):
        after = embed_images(embedder, files, cache=tmp_path / "cache").front
    assert embedder.embedded == 4
    np.testing.assert_array_equal(after, before)
    embed_images(embedder, files, cache=tmp_path / "cache")
    assert embedder.embedded == 4


def test_blocks_are_the_same_embeddings(model, files, small_chunks):
    blocks = list(embed_blocks(aligned(model), files, mirror="both"))
    assert [len(block.front) for block in blocks] == [4, 4, 1]
    whole = embed_images(aligned(model), files, mirror="both")
    np.testing.assert_array_equal(np.concatenate([block.mirrored for block in blocks]), whole.mirrored)


def test_another_size_is_an_error_that_names_the_image_unless_resizing_is_asked_for(model, files, tmp_path):
    large = ("big.png", products.write_face(tmp_path, "big.png", "Ada", 0, size=(24, 20)))
    with pytest.raises(ValueError, match=r"big.png must be 12 x 10 pixels.*24 x 20"):
        embed_images(aligned(model), [*files, large])
    resized = embed_images(aligned(model, resize=True), [*files, large], cache=tmp_path / "cache").front
    np.testing.assert_allclose(resized[:9], expected(model, files), atol=1e-6)
    assert np.linalg.norm(resized[9]) == pytest.approx(1.0, abs=1e-5)
    import tensorflow as tf

    pixels = tf.image.resize(np.array(Image.open(large[1])), (12, 10), antialias=True).numpy()
    png = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype("uint8")).save(png, "PNG")
    np.testing.assert_allclose(resized[9:], expected(model, [("resized", png.getvalue())]), atol=1e-6)


def test_larger_images_are_cut_in_their_middle(model, files, tmp_path):
    large = ("big.png", products.write_face(tmp_path, "big.png", "Ada", 0, size=(16, 13)))
    with pytest.raises(ValueError, match=r"big.png must be 12 x 10 pixels.*`center_crop`"):
        embed_images(aligned(model), [large])
    cut = embed_images(aligned(model, center_crop=True), [*files, large], cache=tmp_path / "cache").front
    np.testing.assert_allclose(cut[:9], expected(model, files), atol=1e-6)
    png = io.BytesIO()
    Image.open(large[1]).crop((1, 2, 11, 14)).save(png, "PNG")
    np.testing.assert_allclose(cut[9:], expected(model, [("cut", png.getvalue())]), atol=1e-6)
    small = ("small.png", products.write_face(tmp_path, "small.png", "Ada", 0, size=(16, 9)))
    with pytest.raises(ValueError, match=r"small.png must be 12 x 10 pixels.*16 x 9"):
        embed_images(aligned(model, center_crop=True), [small])
    with pytest.raises(ValueError, match="`center_crop` exclude"):
        aligned(model, resize=True, center_crop=True)


def test_what_is_no_image_or_not_there_is_named(model, files, tmp_path):
    with pytest.raises(ValueError, match=r"page.jpg cannot be decoded"):
        embed_images(aligned(model), [*files, ("page.jpg", b"<html>")])
    with pytest.raises(ValueError, match=r"empty.jpg cannot be decoded"):
        embed_images(aligned(model, resize=True), [*files, ("empty.jpg", b"")])
    with pytest.raises(FileNotFoundError, match=r"nowhere.png"):
        embed_images(aligned(model), [("nowhere.png", tmp_path / "nowhere.png")], cache=tmp_path / "cache")


@pytest.mark.parametrize("images", [[], [("a", b"1"), ("a", b"2")]])
def test_no_images_or_one_name_twice(model, images):
    with pytest.raises(ValueError, match="each name once"):
        embed_images(aligned(model), images)


def test_arguments(model, files):
    with pytest.raises(ValueError, match="mirror"):
        embed_images(aligned(model), files, mirror="sum")
    with pytest.raises(ValueError, match="batch_size"):
        aligned(model, batch_size=0)


def test_a_model_that_adds_the_mirror_image_by_itself_is_told(model, fusing_model, files):
    assert aligned(model).flip == "none"
    assert aligned(fusing_model).flip == "sum"
    with pytest.raises(ValueError, match="adds the mirror image's embedding by itself"):
        embed_images(aligned(fusing_model), files, mirror="both")
    embedded = embed_images(aligned(fusing_model), files)
    np.testing.assert_allclose(embedded.front, expected(fusing_model, files), atol=1e-6)


def test_a_model_that_does_not_say_how_pixels_are_scaled_is_refused(tmp_path):
    path = products.export(tmp_path / "bare", preprocessing=None)
    with pytest.raises(ValueError, match="exported with `preprocessing`"):
        aligned(path)
    with pytest.raises(FileNotFoundError, match="exported model"):
        aligned(tmp_path)


def test_float_input_gets_the_same_raw_pixels(tmp_path, files):
    """A backbone that scales by itself is exported with the preprocessing of its own layer."""
    from keras_normface.layers import PixelScaling

    keras.utils.set_random_seed(0)
    image = keras.Input((*products.SIZE, 3))
    scaled = PixelScaling(Preprocessing(size=products.SIZE))(image)
    net = keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(scaled)))
    from keras_normface import export_embedding_model

    export_embedding_model(net, tmp_path / "own")
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(tmp_path / "own"))
    pixels = np.array(Image.open(files[0][1]))[None].astype("float32")
    found = embed_images(aligned(tmp_path / "own"), files[:1]).front
    np.testing.assert_allclose(found, loaded.serve(pixels).numpy(), atol=1e-6)


def test_the_fingerprint_is_of_what_decides_the_embeddings(model, other_model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert model_fingerprint(copy) == model_fingerprint(model) != model_fingerprint(other_model)
    card = read_card(copy)
    threshold = CalibratedThreshold(0.5, 0.125, None, 0.5, 1.0, num_genuine=2, num_impostor=2, protocol="toy")
    write_card(copy, dataclasses.replace(card, threshold=threshold, licence="CC0-1.0"))
    assert model_fingerprint(copy) == model_fingerprint(model)
    write_card(copy, dataclasses.replace(card, flip="sum"))
    assert model_fingerprint(copy) != model_fingerprint(model)
    write_card(copy, dataclasses.replace(card, preprocessing=card.preprocessing.replace(scale=1 / 255, offset=0)))
    scaled = model_fingerprint(copy)
    assert scaled != model_fingerprint(model)
    variables = next((copy / "variables").glob("*.data-*"))
    content = bytearray(variables.read_bytes())
    content[-1] ^= 1
    variables.write_bytes(content)
    assert model_fingerprint(copy) not in (scaled, model_fingerprint(model))
    with pytest.raises(FileNotFoundError, match="exported model"):
        model_fingerprint(tmp_path)


def test_stored_embeddings_are_found_by_name(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    save_embeddings(tmp_path / "e.npz", ["a", "ü b", "c/d.jpg"], rows)
    names, found = load_embeddings(tmp_path / "e.npz")
    assert names.tolist() == ["a", "ü b", "c/d.jpg"]
    assert named_rows(names, found, ["c/d.jpg", "a"]).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    wanted = ["a", *(f"{number}.jpg" for number in range(7))]
    with pytest.raises(ValueError, match=r"7 of the protocol's 8 images: 0.jpg, 1.jpg, .*4.jpg and 2 more"):
        named_rows(names, found, wanted)


def saved(array):
    """Bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def made_up(shape):
    """Bytes of an .npy file with a header of this shape, and no numbers."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_what_is_no_file_of_embeddings(tmp_path):
    path = tmp_path / "e.npz"
    with pytest.raises(ValueError, match="npz"):
        save_embeddings(tmp_path / "e.npy", ["a"], [[1.0]])
    for names, rows in ((["a", "a"], [[1.0], [2.0]]), (["a"], [[1.0], [2.0]]), (["a"], [1.0])):
        with pytest.raises(ValueError, match="names must hold"):
            save_embeddings(path, names, rows)
    assert not path.exists()
    np.savez(path, names=np.array(["a"]), embeddings=np.array([[{"code": 1}]], dtype=object))
    with pytest.raises(ValueError, match=r"e.npz must be an .npz file"):
        load_embeddings(path)
    for content in (b"", b"PK\x03\x04 cut", pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"e.npz must be an .npz file"):
            load_embeddings(path)
    for shape in ("(10**3, 4), " + "(" * 40, f"({10**14}, 4)", f"({10**30}, 4)", "(-1, 4)"):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("names.npy", saved(np.array(["a"])))
            file.writestr("embeddings.npy", made_up(shape))
        with pytest.raises(ValueError, match=r"e.npz must be an .npz file"):
            load_embeddings(path)
    np.save(tmp_path / "matrix.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"matrix.npy must be an .npz file"):
        load_embeddings(tmp_path / "matrix.npy")
    with pytest.raises(FileNotFoundError):
        load_embeddings(tmp_path / "nowhere.npz")


def test_an_npz_file_that_is_a_bomb_takes_little_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, names=np.array(["a"]), embeddings=np.zeros((1, 2**25), "float32"))
    assert path.stat().st_size < 2**18
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.npz .* embeddings of 134217728 bytes is too large for its file"):
            load_embeddings(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_compressed_embeddings_are_read(tmp_path):
    names, rows = [f"{k:07d}/{k:03d}.jpg" for k in range(2**16)], np.ones((2**16, 64), "float32")
    rows[:, :8] = np.random.default_rng(0).normal(size=(2**16, 8))
    np.savez_compressed(tmp_path / "e.npz", names=names, embeddings=rows)
    found, read = load_embeddings(tmp_path / "e.npz")
    assert found.tolist() == names
    np.testing.assert_array_equal(read, rows)


@pytest.mark.parametrize("member", ["names", "embeddings"])
def test_a_member_that_is_no_array_is_named_with_the_file(tmp_path, member):
    path = tmp_path / "e.npz"
    with zipfile.ZipFile(path, "w") as file:
        for name, array in (("names", np.array(["a"])), ("embeddings", np.eye(1))):
            file.writestr(f"{name}.npy", b"no array at all" if name == member else saved(array))
    with pytest.raises(ValueError, match=rf"e\.npz must be an \.npz file .*: {member} is not an array") as caught:
        load_embeddings(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 10, 40, 0.5, -1])
@pytest.mark.parametrize("pattern", ["variables/*.index", "variables/*.data-*", "saved_model.pb"])
def test_a_saved_model_that_is_cut_is_named_in_one_line(model, tmp_path, pattern, kept):
    copy = shutil.copytree(model, tmp_path / "copy")
    (cut,) = copy.glob(pattern)
    content = cut.read_bytes()
    cut.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises((ValueError, OSError), match="copy") as caught:
        aligned(copy)
    assert "\n" not in str(caught.value).strip()


def test_a_full_disk_names_the_cached_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*e\.npz'"):
        save_embeddings(tmp_path / "e.npz", ["a"], [[1.0]])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_replaced_while_it_is_embedded_is_not_cached(model, files, tmp_path, monkeypatch):
    path = shutil.copy(files[0][1], tmp_path / "a.png")
    embedder, embed = aligned(model), Embedder.embed

    def replaced(self, images, *arguments, **options):
        shutil.copy(files[1][1], path)
        return embed(self, images, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed", replaced)
        embed_images(embedder, [("a.png", path)], cache=tmp_path / "cache")
    shutil.copy(files[0][1], path)
    found = embed_images(embedder, [("a.png", path)], cache=tmp_path / "cache").front
    np.testing.assert_allclose(found, expected(model, [("a.png", path)]), atol=1e-6)
