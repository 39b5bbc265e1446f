"""The pictures are written whole or not at all, without pyplot, and only with matplotlib."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook, figure

from keras_normface.metrics import MetricValue, Result, plot_det, plot_embeddings, plot_result, plot_roc, roc_curve
from keras_normface.metrics import plots as plots
from keras_normface.metrics.plots import _staircase

CURVE = roc_curve([0.9, 0.8, 0.6, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch):
    """The figures drawn, kept before they are written."""
    figures, write = [], plots._write

    def keep(figure, path):
        write(figure, path)
        figures.append(figure)

    monkeypatch.setattr(plots, "_write", keep)
    return figures


def people(count):
    angles = 2 * np.pi * np.arange(3 * count) / (3 * count)
    return np.c_[np.cos(angles), np.sin(angles)], np.repeat(np.arange(count), 3)


class TestRoc:
    def test_writes_only_the_png(self, tmp_path, drawn):
        path = tmp_path / "roc.png"
        path.write_bytes(b"old")
        plot_roc({"toy": CURVE}, path, title="Toy")
        assert path.read_bytes().startswith(PNG)
        assert [entry.name for entry in tmp_path.iterdir()] == ["roc.png"]
        assert drawn[0].axes[0].get_title() == "Toy"

    def test_axis_starts_at_the_smallest_resolvable_far(self, tmp_path, drawn):
        plenty = roc_curve(np.r_[np.ones(5), np.linspace(0, 0.9, 1000)], np.arange(1005) < 5)
        plot_roc({"three": CURVE, "thousand": plenty}, str(tmp_path / "roc.png"))
        axes = drawn[0].axes[0]
        assert axes.get_xscale() == "log"
        assert axes.get_xlim() == pytest.approx((1e-3, 1.0))
        assert axes.lines[0].get_xdata()[0] == pytest.approx(1 / 3)
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["three (3 impostor pairs)", "thousand (1,000 impostor pairs)"]

    def test_staircase_shows_the_largest_tar_that_keeps_to_far(self):
        # Falling: .9 G, .8 G, .7 I, .6 G, ...: TAR is 1 as soon as one impostor of three is allowed.
        far, tar = _staircase(CURVE)
        assert (far[0], far[-1]) == (1 / 3, 1.0)
        np.testing.assert_array_equal(tar, 1.0)
        # Both impostors tied above everything: nothing is accepted below FAR 1.
        far, tar = _staircase(roc_curve([0.9, 0.9, 0.1], [0, 0, 1]))
        np.testing.assert_array_equal(tar[:-1], 0.0)
        assert tar[-1] == 1.0

    @pytest.mark.parametrize("curves", [{}, [CURVE], {"a": None}])
    def test_bad_curves(self, tmp_path, curves):
        with pytest.raises(ValueError, match=r"`curves` must .*Received: curves"):
            plot_roc(curves, tmp_path / "roc.png")


class TestDet:
    def test_by_hand(self, tmp_path, drawn):
        # Falling: .9 G, .8 G, .7 I, .6 G, .2 I, .1 I. As soon as one impostor of three may pass, nothing is missed.
        plot_det({"toy": CURVE}, tmp_path / "det.png", title="Toy")
        axes = drawn[0].axes[0]
        assert (axes.get_xscale(), axes.get_yscale(), axes.get_title()) == ("log", "log", "Toy")
        far, miss = axes.lines[0].get_data()
        assert far[0] == pytest.approx(1 / 3)
        np.testing.assert_array_equal(miss, 0.0)
        assert axes.get_legend().get_texts()[0].get_text() == "toy (3 genuine pairs)"

    def test_it_shows_one_minus_the_roc(self, tmp_path, drawn):
        rng = np.random.default_rng(0)
        same = rng.random(3000) < 0.3
        curve = roc_curve(rng.normal(size=3000) + 2 * same, same)
        plot_det({"curve": curve}, tmp_path / "det.png")
        plot_roc({"curve": curve}, tmp_path / "roc.png")
        (det_far, miss), (roc_far, tar) = (figure.axes[0].lines[0].get_data() for figure in drawn)
        np.testing.assert_array_equal(det_far, roc_far)
        np.testing.assert_array_equal(miss, 1.0 - np.asarray(tar))
        left, right = drawn[0].axes[0].get_xlim()
        bottom, top = drawn[0].axes[0].get_ylim()
        assert (left, right, top) == (1 / curve.num_impostor, 1.0, 1.0)
        assert 0 < bottom <= 1 / curve.num_genuine

    @pytest.mark.parametrize("curves", [{}, [CURVE], {"a": None}])
    def test_bad_curves(self, tmp_path, curves):
        with pytest.raises(ValueError, match=r"`curves` must .*Received: curves"):
            plot_det(curves, tmp_path / "det.png")


class TestResult:
    def test_roc_and_det_side_by_side_under_the_protocols_name(self, tmp_path, drawn):
        figures = (MetricValue("accuracy", 0.5),)
        plot_result(Result("LFW, 6 000 pairs, ten folds", figures, {}, {}, {"all": CURVE}), tmp_path / "r.png")
        roc, det = drawn[0].axes
        assert roc.get_title() == "LFW, 6 000 pairs, ten folds"
        assert (roc.get_ylabel(), det.get_ylabel()) == ("True accept rate (TAR)", "Miss rate (1 - TAR)")
        assert (tmp_path / "r.png").read_bytes().startswith(PNG)

    def test_a_result_without_curves(self, tmp_path):
        with pytest.raises(ValueError, match="`result` must hold a curve"):
            plot_result(Result("toy", (MetricValue("accuracy", 0.5),), {}), tmp_path / "r.png")
        with pytest.raises(ValueError, match="`result` must be a Result"):
            plot_result({"toy": CURVE}, tmp_path / "r.png")


class TestEmbeddings:
    @pytest.mark.parametrize("count", [1, 12])
    def test_legend_for_a_few_people(self, tmp_path, drawn, count):
        plot_embeddings(*people(count), tmp_path / "people.png")
        texts = drawn[0].axes[0].get_legend().get_texts()
        assert [text.get_text() for text in texts] == [str(person) for person in range(count)]

    @pytest.mark.parametrize("count", [13, 20, 21, 300])
    def test_no_legend_for_many(self, tmp_path, drawn, count):
        plot_embeddings(*people(count), tmp_path / "people.png")
        assert drawn[0].axes[0].get_legend() is None

    @pytest.mark.parametrize("count", [1, 12, 20, 21, 500])
    def test_one_colour_per_person(self, tmp_path, drawn, count):
        points, labels = people(count)
        plot_embeddings(points, labels, tmp_path / "people.png")
        colours = drawn[0].axes[0].collections[0].get_facecolors()
        assert len(np.unique(colours, axis=0)) == count
        np.testing.assert_array_equal(colours[::3], colours[2::3])

    @pytest.mark.filterwarnings("error")
    def test_names_are_shown_as_they_are(self, tmp_path, drawn):
        plot_embeddings(np.eye(2), ["$a_b$ $", "_c"], tmp_path / "people.png", title="Names")
        texts = [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
        assert texts == [r"\$a_b\$ \$", "_c"]

    @pytest.mark.parametrize(
        ("points", "labels", "message"),
        [
            (np.ones((2, 3)), [0, 1], r"`points` must have shape \(N, 2\).*points.shape=\(2, 3\)"),
            (np.ones((0, 2)), [], r"points.shape=\(0, 2\)"),
            ([[0, 1], [np.nan, 0]], [0, 1], r"`points` must be finite. Received: points\[1\]=\[nan, 0.0\]"),
            (np.ones((2, 2)), [0], r"`labels` must have shape \(2,\)"),
        ],
    )
    def test_bad_arguments(self, tmp_path, points, labels, message):
        with pytest.raises(ValueError, match=message):
            plot_embeddings(points, labels, tmp_path / "people.png")


class TestAxes:
    def test_the_callers_axes_are_drawn_on_and_nothing_is_written(self, tmp_path, drawn):
        ax = figure.Figure().add_subplot()
        assert plot_roc({"first": CURVE}, ax=ax, title="Both") is ax
        assert plot_roc({"second": CURVE}, ax=ax) is ax
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["first (3 impostor pairs)", "second (3 impostor pairs)"]
        assert ax.get_title() == "Both"
        assert plot_det({"toy": CURVE}, ax=figure.Figure().add_subplot()).get_ylabel() == "Miss rate (1 - TAR)"
        axes = figure.Figure().subplots(1, 2)
        roc, det = plot_result(Result("toy", (MetricValue("a", 0.5),), {}, {}, {"all": CURVE}), axes=axes)
        assert (roc, det) == tuple(axes)
        assert plot_embeddings(*people(3), ax=figure.Figure().add_subplot()).collections
        assert not drawn
        assert not list(tmp_path.iterdir())

    def test_a_file_gives_its_axes_back(self, tmp_path, drawn):
        assert plot_roc({"toy": CURVE}, tmp_path / "roc.png") is drawn[0].axes[0]

    def test_either_a_file_or_axes(self, tmp_path):
        result = Result("toy", (MetricValue("a", 0.5),), {}, {}, {"all": CURVE})
        for plot in (plot_roc, plot_det):
            with pytest.raises(ValueError, match=r"`path` or `ax` .*neither"):
                plot({"toy": CURVE})
            with pytest.raises(ValueError, match=r"`path` or `ax` .*both"):
                plot({"toy": CURVE}, tmp_path / "roc.png", ax=figure.Figure().add_subplot())
        with pytest.raises(ValueError, match=r"`path` or `axes` .*neither"):
            plot_result(result)
        with pytest.raises(ValueError, match=r"`axes` must be 2 axes. Received: 3"):
            plot_result(result, axes=figure.Figure().subplots(1, 3))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [r"a$\x$", r"$\frac{$", "100 $ and $200", r"a\$b", "_child", "_own", "$"])
def test_names_and_titles_are_shown_as_they_are(tmp_path, drawn, name):
    # `$...$` would be read as mathematical text, which such a name need not be.
    plot_result(Result(f"{name}, 6 pairs", (MetricValue("a", 0.5),), {}, {}, {name: CURVE}), tmp_path / "result.png")
    plot_roc({name: CURVE}, tmp_path / "roc.png", title=name)
    plot_det({name: CURVE}, tmp_path / "det.png", title=name)
    plot_embeddings(np.eye(2), [name, "b"], tmp_path / "embeddings.png", title=name)
    assert drawn[0].axes[0].get_title() == f"{name}, 6 pairs".replace("$", r"\$")
    for each in drawn:
        texts = [each.axes[0].title, *each.axes[0].get_legend().get_texts()]
        assert len(texts) == (3 if each is drawn[-1] else 2)
        assert not any(cbook.is_math_text(text.get_text()) for text in texts)


class TestFiles:
    def test_a_failed_write_leaves_the_old_picture(self, tmp_path, monkeypatch):
        path = tmp_path / "roc.png"
        path.write_bytes(b"old")

        def fail(self, target, **kwargs):
            target.write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(figure.Figure, "savefig", fail)
        with pytest.raises(OSError, match="disk full"):
            plot_roc({"toy": CURVE}, path)
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["roc.png"]

    def test_the_old_picture_is_replaced_not_rewritten(self, tmp_path):
        path, held = tmp_path / "roc.png", tmp_path / "held"
        path.write_bytes(b"old")
        held.hardlink_to(path)
        plot_roc({"toy": CURVE}, path)
        assert path.read_bytes().startswith(PNG)
        assert held.read_bytes() == b"old"

    def test_bad_paths(self, tmp_path):
        with pytest.raises(ValueError, match=r"`path` must end in .png. Received: path='roc.pdf'"):
            plot_roc({"toy": CURVE}, "roc.pdf")
        with pytest.raises(FileNotFoundError, match="`path` must lie in an existing directory"):
            plot_embeddings(np.eye(2), [0, 1], tmp_path / "missing" / "people.png")

    def test_missing_matplotlib(self, tmp_path, monkeypatch):
        for name in ("matplotlib.backends.backend_agg", "matplotlib.figure"):
            monkeypatch.setitem(sys.modules, name, None)
        for draw in (
            lambda: plot_roc({"toy": CURVE}, tmp_path / "roc.png"),
            lambda: plot_embeddings(np.eye(2), [0, 1], tmp_path / "people.png"),
        ):
            with pytest.raises(ImportError, match=r'pip install "keras-normface\[plot\]"'):
                draw()
        assert not list(tmp_path.iterdir())

    def test_matplotlib_is_lazy_and_pyplot_never_used(self, tmp_path):
        # A bare package stands in for keras_normface, because Keras itself imports pyplot.
        package = str(Path(plots.__file__).parents[1])
        code = (
            "import sys, types\n"
            "package = sys.modules['keras_normface'] = types.ModuleType('keras_normface')\n"
            f"package.__path__ = [{package!r}]\n"
            "from keras_normface.metrics import plot_roc, roc_curve\n"
            "early = 'matplotlib' in sys.modules\n"
            f"plot_roc({{'toy': roc_curve([1, 0], [1, 0])}}, {str(tmp_path / 'roc.png')!r})\n"
            "sys.exit(early + 2 * ('matplotlib.pyplot' in sys.modules))\n"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
