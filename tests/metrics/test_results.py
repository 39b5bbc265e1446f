"""Results keep every number through JSON, name the protocol beside each figure, and refuse what is none."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_normface.metrics import MetricValue, Result, roc_curve
from keras_normface.metrics.results import _curve_from_dict, _curve_to_dict, _value_from_dict, _value_to_dict

finite = st.floats(allow_nan=False, allow_infinity=False)


def toy(**changes):
    arguments = {
        "protocol": "LFW, 6 000 pairs, ten folds",
        "figures": (
            MetricValue("accuracy", 0.9953, (0.991, 0.998), 0.0011, "standard error of ten folds"),
            MetricValue("TAR@FAR=1e-03", 0.25, threshold=0.5, note="a | b\nc"),
            MetricValue("mean angle", 12.5, unit="degrees"),
        ),
        "counts": {"pairs": np.int64(6), "subjects": 3},
        "settings": {"fusion": "sum", "fars": (0.1, np.float32(0.5)), "thresholds": np.arange(2.0), "pca": None},
        "curves": {"all pairs": roc_curve([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])},
    }
    return Result(**{**arguments, **changes})


def curve(**changes):
    """A curve as it is stored."""
    stored = {"far": [0, 1], "tar": [0, 1], "thresholds": [1, 0], "num_genuine": 1, "num_impostor": 1}
    return {**stored, "downsampled": False, **changes}


class TestText:
    def test_the_protocol_stands_beside_each_figure(self):
        assert str(toy()).splitlines() == [
            "LFW, 6 000 pairs, ten folds: accuracy 99.53 % +- 0.11 % (standard error of ten folds), "
            "95% interval 99.10 % to 99.80 %",
            "LFW, 6 000 pairs, ten folds: TAR@FAR=1e-03 25.00 %; a | b c",
            "LFW, 6 000 pairs, ten folds: mean angle 12.5 degrees",
        ]

    def test_markdown_has_one_line_a_figure_and_keeps_bars_in_their_cell(self):
        lines = toy().markdown().splitlines()
        assert len(lines) == 5
        assert {line.replace(r"\|", "").count("|") for line in lines} == {8}
        assert lines[3] == r"| LFW, 6 000 pairs, ten folds | TAR@FAR=1e-03 | 25.00 % |  |  | 0.5000 | a \| b c |"

    def test_row(self):
        assert toy().markdown_row(("mean angle", "accuracy")) == (
            "| LFW, 6 000 pairs, ten folds | 12.5 degrees | 99.53 % +- 0.11 % (99.10 % to 99.80 %) |"
        )
        assert toy().markdown_row().count("|") == 5

    def test_a_missing_figure_is_named_with_those_there_are(self):
        with pytest.raises(KeyError, match=r"no figure 'EER' in LFW.*'accuracy', 'TAR@FAR=1e-03', 'mean angle'"):
            toy()["EER"]


class TestJson:
    def test_round_trip(self):
        result = toy()
        again = Result.from_json(result.to_json())
        assert again.figures == result.figures
        assert (again.protocol, again.counts, again.settings) == (result.protocol, result.counts, result.settings)
        for name in ("far", "tar", "thresholds"):
            np.testing.assert_array_equal(
                getattr(again.curves["all pairs"], name), getattr(result.curves["all pairs"], name)
            )
        assert again.to_json() == result.to_json()

    def test_it_is_strict_json(self):
        def refuse(constant):
            raise AssertionError(constant)

        content = json.loads(toy().to_json(), parse_constant=refuse)
        assert content["curves"]["all pairs"]["thresholds"][0] is None
        assert content["settings"] == {"fusion": "sum", "fars": [0.1, 0.5], "thresholds": [0.0, 1.0], "pca": None}

    def test_a_stored_curve_that_is_sound(self):
        content = json.loads(toy().to_json())
        content["curves"] = {"a": curve()}
        assert Result.from_json(json.dumps(content)).curves["a"].equal_error_rate() == 0.5

    @settings(deadline=None, max_examples=50)
    @given(
        st.text(min_size=1), finite, st.none() | st.tuples(finite, finite).map(sorted), st.none() | finite, st.text()
    )
    def test_any_figure_comes_back_bit_for_bit(self, name, value, interval, threshold, note):
        interval = interval and tuple(interval)
        figure = MetricValue(name, value, interval, threshold=threshold, note=note)
        assert _value_from_dict(json.loads(json.dumps(_value_to_dict(figure)))) == figure

    def test_files_are_whole_or_not_there(self, tmp_path, monkeypatch):
        path = tmp_path / "result.json"
        toy().save(path)
        assert Result.load(path).to_json() == toy().to_json()
        monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            toy(protocol="another").save(path)
        assert Result.load(path).protocol == toy().protocol
        assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[",
            "[]",
            "[" * 100000,
            "{}",
            b"\xff\xfe\x00",
            '{"format": "keras_normface evaluation result", "version": 3}',
            '{"format": "keras_normface evaluation result", "version": 2, "protocol": "p"}',
            # Of version 1, in which a curve did not say whether it is complete.
            toy().to_json().replace('"version": 2', '"version": 1'),
        ],
    )
    def test_damaged_text(self, tmp_path, text):
        with pytest.raises(ValueError, match=r"Received|not valid JSON"):
            Result.from_json(text)
        path = tmp_path / "r.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=r"r\.json is not valid"):
            Result.load(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("protocol", 3),
            ("figures", {}),
            ("figures", [3]),
            ("figures", [{"name": "a"}]),
            ("figures", [{"name": "a", "value": "1"}]),
            ("figures", [{"name": "a", "value": 1, "code": 2}]),
            ("figures", [{"name": "a", "value": math.nan}]),
            ("figures", [{"name": "a", "value": 10**400}]),
            ("figures", [{"name": "a", "value": 1}, {"name": "a", "value": 2}]),
            ("counts", {"pairs": 0.5}),
            ("curves", {"a": 3}),
            ("curves", {"a": curve(far=[0])}),
            ("curves", {"a": curve(far=[0, 2])}),
            ("curves", {"a": curve(far=[1, 0])}),
            ("curves", {"a": curve(num_genuine=0)}),
            ("curves", {"a": curve(far=[], tar=[], thresholds=[])}),
            ("curves", {"a": curve(downsampled=0)}),
        ],
    )
    def test_what_is_no_result(self, key, value):
        content = json.loads(toy().to_json())
        content[key] = value
        with pytest.raises(ValueError, match=r"Received|not valid JSON"):
            Result.from_json(json.dumps(content))


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": ""}, "`name` must not be empty"),
            ({"name": 3}, "`name` must be text"),
            ({"value": np.nan}, "`value` must be a finite number. Received: value=nan"),
            ({"value": True}, "`value` must be a finite number"),
            ({"threshold": np.inf}, "`threshold` must be a finite number"),
            ({"spread": -0.1, "spread_of": "x"}, "`spread` must not be negative"),
            ({"spread": 0.1}, "spread_of must say what it is"),
            ({"interval": (0.5, 0.4)}, "low <= high"),
            ({"interval": 0.5}, r"`interval` must be \(low, high\)"),
            ({"interval": (0.5, np.inf)}, "`interval` must be a finite number"),
        ],
    )
    def test_bad_figures(self, changes, message):
        with pytest.raises(ValueError, match=message):
            MetricValue(**{"name": "a", "value": 0.5, **changes})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"protocol": ""}, "`protocol` must be the protocol's name"),
            ({"figures": (0.5,)}, "`figures` must hold MetricValue values"),
            ({"figures": (MetricValue("a", 1), MetricValue("a", 2))}, r"each name once.*\['a'\]"),
            ({"counts": {"pairs": 1.5}}, "`counts"),
            ({"counts": [1]}, "`counts` must be a dict"),
            ({"settings": {"a": np.nan}}, "`settings` must hold what JSON can"),
            ({"settings": {"a": object()}}, "`settings` must hold what JSON can"),
            ({"settings": [1]}, "`settings` must be a dict"),
            ({"curves": {"a": 1}}, "`curves` must hold RocCurve"),
        ],
    )
    def test_bad_results(self, changes, message):
        with pytest.raises(ValueError, match=message):
            toy(**changes)


class TestDownsampled:
    def test_every_kept_point_is_one_of_the_curve_and_the_picture_is_kept(self):
        rng = np.random.default_rng(0)
        same = rng.random(20000) < 0.3
        curve = roc_curve(rng.normal(size=20000) + 2 * same, same)
        thin = curve.downsample(steps=100)
        assert len(thin.far) <= 202
        full = set(zip(curve.far, curve.tar, curve.thresholds, strict=True))
        assert set(zip(thin.far, thin.tar, thin.thresholds, strict=True)) <= full
        for far in np.geomspace(1 / curve.num_impostor, 1, 100):
            # Slow: the best TAR that keeps to this FAR, on both curves.
            assert max(t for f, t in zip(thin.far, thin.tar, strict=True) if f <= far) == max(
                t for f, t in zip(curve.far, curve.tar, strict=True) if f <= far
            )
        for miss in np.geomspace(1 / curve.num_genuine, 1, 100):
            assert min(f for f, t in zip(thin.far, thin.tar, strict=True) if t >= 1 - miss) == min(
                f for f, t in zip(curve.far, curve.tar, strict=True) if t >= 1 - miss
            )

    def test_a_short_curve_is_kept(self):
        curve = roc_curve([0.9, 0.1], [1, 0])
        assert curve.downsample() is curve
        assert _curve_from_dict(_curve_to_dict(curve)).num_genuine == 1

    @pytest.mark.parametrize("steps", [1, 0, 2.5, None])
    def test_bad_steps(self, steps):
        with pytest.raises(ValueError, match="`steps` must be an integer of at least 2"):
            roc_curve([0.9, 0.1], [1, 0]).downsample(steps)
