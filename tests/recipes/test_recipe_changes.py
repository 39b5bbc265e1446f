"""Changing, describing, writing and reading recipes, and what is refused."""

import json
import math

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.optimizers.schedules import PiecewiseConstantDecay, PolynomialDecay

from keras_normface import Preprocessing
from keras_normface import recipes as package
from keras_normface.data import Augmentation
from keras_normface.heads import MarginSoftmaxHead
from keras_normface.layers import LearnableScale
from keras_normface.margins import AdditiveAngular, AdditiveCosine, CombinedMargin
from keras_normface.recipes import NormFaceCasia, Recipe, serialized
from keras_normface.recipes import _registry as describe
from keras_normface.recipes import _registry as files
from keras_normface.recipes._components import head_layers

AM = package.get("am_softmax_casia")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"am_softmax_casia, .*normface_joint.*_v2_sfn.*Received: 'arcface'"):
        package.get("arcface")


def test_an_unknown_field_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"one of the fields backbone, backbone_options, .*steps.*Received: 'step'"):
        AM.replace(step=3)
    with pytest.raises(ValueError, match="one of the fields"):
        AM.replace(name="other")


def test_replace_changes_a_field_or_a_part_of_it():
    new = {"steps": 5, "preprocessing": Preprocessing((64, 64)), "head_weights": [2]}
    changed = AM.replace(**new, **{"heads.0.config.margin.config.margin": 0.2})
    assert (AM.steps, AM.heads[0]["config"]["margin"]["config"]["margin"]) == (30000, 0.35)
    assert (changed.steps, changed.preprocessing.size, changed.head_weights) == (5, (64, 64), (2.0,))
    margin = {"class_name": "AdditiveCosine", "config": {"margin": 0.2}}
    assert changed.heads[0]["config"] == {"feature_norm": "hard", "margin": margin, "scale": 30.0}
    assert type(changed) is type(AM)
    assert changed.replace(steps=30000) != AM
    assert AM.replace() == AM


def test_options_are_replaced_as_a_whole_and_their_parts_alone():
    assert AM.backbone_options == {"depth": 20, "batch_norm": False}
    assert AM.replace(backbone_options={"depth": 4}).backbone_options == {"depth": 4}
    assert AM.replace(**{"backbone_options.depth": 4}).backbone_options == {"depth": 4, "batch_norm": False}
    assert AM.replace(**{"backbone_options.variant": "opensphere"}).backbone_options["variant"] == "opensphere"


@pytest.mark.parametrize(
    "name", ["heads.1.config.scale", "heads.x", "steps.3", "preprocessing.size.7", "backbone_options.a.b", "heads.-1"]
)
def test_a_part_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="must name a part of a recipe"):
        AM.replace(**{name: 1})


def test_nobody_else_can_change_a_recipe():
    options = {"depth": 4}
    recipe = AM.replace(backbone_options=options)
    options["depth"] = 20
    assert recipe.backbone_options == {"depth": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "VGGFace"}, "`backbone` must be one of SphereFaceNet, .*MobileNet"),
        ({"backbone_options": [1]}, "`backbone_options` must be a dictionary"),
        ({"backbone_options": {"depth": math.nan}}, "`backbone_options` must be a dictionary that JSON can hold"),
        ({"embedding_dim": 0}, "`embedding_dim` must be a positive integer"),
        ({"embedding_dim": 2.0}, "`embedding_dim` must be a positive integer"),
        ({"dropout": 1}, "`dropout` must be a finite number >= 0 and < 1"),
        ({"preprocessing": {"size": [1, 2]}}, "`version`"),
        ({"preprocessing": {"version": 2, "size": [1, 2]}}, "`fields` must have the keys"),
        ({"preprocessing.size": [0, 2]}, "`size` must be two integers"),
        ({"augmentation": 3}, "`augmentation` must be an Augmentation"),
        ({"augmentation.crop": -1}, "`crop` must be a non-negative integer"),
        ({"augmentation.crop": 1.5}, "`crop` must be a non-negative integer"),
        ({"augmentation.mirror": "no"}, "`mirror` must be True or False"),
        ({"augmentation.contrast": "a"}, "`contrast` must be a finite number"),
        ({"augmentation.jitter": 1}, "`augmentation` must have keys of"),
        ({"heads": []}, "`heads` must hold at least one"),
        ({"heads": [{"config": {}}]}, "`heads.0` must be .* serialised"),
        ({"heads": ["MarginSoftmaxHead"]}, "`heads.0` must be .* serialised"),
        ({"heads.0.kind": "margin_softmax"}, "`heads.0` must be .* serialised"),
        ({"heads.0.class_name": "softmin"}, "`heads.0.class_name` must be one of MarginSoftmaxHead, SoftmaxHead"),
        ({"heads.0.class_name": ["MarginSoftmaxHead"]}, "`heads.0.class_name` must be one of"),
        ({"heads": [serialized(AdditiveCosine)]}, "`heads.0` must be a head"),
        ({"heads.0.config.units": 5}, "without `units`"),
        ({"heads.0.config": [1]}, "`heads.0.config` must be a dictionary"),
        ({"head_weights": [0]}, "`head_weights.0` must be a finite number > 0"),
        ({"head_weights": [1, 1]}, "`head_weights` must be None or 1 numbers"),
        ({"head_weights": 1.0}, "`head_weights` must be None or 1 numbers"),
        ({"heads.0.config": {"scales": 3}}, "keyword arguments passed to MarginSoftmaxHead"),
        ({"heads.0.config": {"scale": {"start": 3}}}, "`heads.0.config.scale` must be .* serialised"),
        ({"heads.0.config.margin.class_name": "cos"}, "`heads.0.config.margin.class_name` must be one of"),
        ({"heads.0.config": {"margin": 0.3}}, "`margin` must be a Margin"),
        ({"heads.0.config.margin.class_name": "NoMargin"}, "`heads.0.config.margin.config` must fit NoMargin"),
        ({"heads.0.config.margin.config.margin": 5}, "`margin` must be in"),
        (
            {"heads.0.config.margin.config.margin": True},
            "margin.config.margin` must be a finite number",
        ),
        ({"heads.0.config.scale": "a"}, "`heads.0.config` must fit MarginSoftmaxHead"),
        ({"heads.0.config.scale": math.inf}, "`heads.0.config` must be a dictionary that JSON can hold"),
        ({"heads.0.config.scale": serialized(LearnableScale, initial_value="a")}, "must fit LearnableScale"),
        ({"heads.0.config.scale": serialized(LearnableScale, minimum=0)}, "`minimum` must be a finite number > 0"),
        (
            {"heads.0.config.margin.config.only_above_margin": "no"},
            "`heads.0.config.margin.config.only_above_margin` must be True or False",
        ),
        ({"heads.0.config.kernel_regularizer": {"class_name": "L2"}}, "kernel_regularizer` must be .* serialised"),
        ({"heads.0.config.loss_weight": -1}, "`loss_weight` must be a finite number > 0"),
        ({"heads.0.config.margin_schedule": serialized(PolynomialDecay)}, "must fit PolynomialDecay"),
        ({"heads.0.config.feature_norm": "l2"}, "`feature_norm` must be"),
        ({"batch_size": True}, "`batch_size` must be a positive integer"),
        ({"steps": 0}, "`steps` must be a positive integer"),
        ({"learning_rate": 0}, "`learning_rate` must be a finite number > 0"),
        ({"learning_rate": math.inf}, "`learning_rate` must be a finite number"),
        ({"learning_rate": "0.1"}, "`learning_rate` must be a finite number"),
        ({"milestones": [3, 3]}, "`milestones` must be increasing positive integers"),
        ({"milestones": [0]}, "`milestones` must be increasing positive integers"),
        ({"milestones": 5}, "`milestones` must be increasing"),
        ({"momentum": 1.1}, "`momentum` must be a finite number >= 0 and <= 1"),
        ({"weight_decay": -1}, "`weight_decay` must be a finite number >= 0"),
        ({"multipliers": [["(", 1, 1]]}, "`multipliers` must hold triples"),
        ({"learning_rate": 10**400}, "`learning_rate` must be a finite number"),
        ({"multipliers": [["a", 10**400, 1]]}, "`multipliers` must hold triples"),
        ({"multipliers": [["a{99999999999999999999}", 1, 1]]}, "`multipliers` must hold triples"),
        ({"multipliers": [["(" * 5000 + ")" * 5000, 1, 1]]}, "`multipliers` must hold triples"),
        ({"multipliers": 3}, "`multipliers` must be a list"),
        ({"snapshots": -1}, "`snapshots` must be a non-negative integer"),
        ({"snapshots": 3, "snapshot_share": 0}, "`snapshot_share` must be a finite number > 0"),
        ({"excluded_identities": "0000513"}, "`excluded_identities` must be a list of strings"),
        ({"initial_weights_needed": 1}, "`initial_weights_needed` must be True or False"),
        ({"initial_centers": "means"}, "`initial_centers` must be one of"),
        ({"frozen_steps": -1}, "`frozen_steps` must be a non-negative integer"),
        ({"frozen_learning_rate": 0}, "`frozen_learning_rate` must be a finite number > 0"),
        ({"evaluation_steps": 0}, "`evaluation_steps` must be a positive integer"),
        ({"patience": True}, "`patience` must be a positive integer"),
    ],
    ids=lambda value: str(value)[:80],
)
def test_what_does_not_fit_is_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        AM.replace(**changes)


def test_augmentation_with_a_function_is_refused():
    with pytest.raises(ValueError, match="without a function"):
        AM.replace(augmentation=Augmentation(image=lambda image, seed: image))
    assert AM.replace(augmentation=None).augmentation is None


@pytest.mark.parametrize(("classes", "options"), [(1, {}), (3, {"deep": 3}), (3, {"depth": 5})])
def test_what_cannot_be_built_is_refused(classes, options):
    with pytest.raises(ValueError, match=r"`num_classes`|`backbone_options` must be arguments of|`depth`"):
        AM.replace(backbone_options=options, **{"preprocessing.size": [16, 16]}).build(classes)


@pytest.mark.parametrize(
    "name",
    [
        "os>system",
        "builtins>eval",
        "keras>Lambda",
        "Lambda",
        "os.system",
        "keras.layers.Lambda",
        "a>function",
        "a>NoPart",
    ],
)
@pytest.mark.parametrize("field", ["heads.0", "heads.0.config.margin"])
def test_nothing_but_the_listed_and_registered_classes_is_made(field, name):
    keras.saving.register_keras_serializable("a")(function)
    keras.saving.register_keras_serializable("a")(NoPart)
    for changes in (
        {f"{field}.class_name": name},
        {field: {"module": "os", "class_name": name, "config": {}, "registered_name": name}},
        {field: {"module": "builtins", "class_name": "eval", "config": {}, "registered_name": None}},
    ):
        with pytest.raises(ValueError, match=f"`{field}.class_name` must be one of"):
            AM.replace(**changes)


def function():
    """Is registered with Keras, and is not a class."""


class NoPart(keras.layers.Layer):
    """Is registered with Keras, and is neither a head nor a part of one."""


def test_a_registered_class_of_ones_own(tmp_path):
    @keras.saving.register_keras_serializable("recipe_test")
    class MyHead(MarginSoftmaxHead):
        pass

    changed = AM.replace(heads=[serialized(MyHead, scale=5.0)])
    assert changed.heads[0]["class_name"] == "recipe_test>MyHead"
    changed.save(tmp_path)
    assert Recipe.load(tmp_path) == changed
    (head,) = head_layers(changed.heads, 3)
    assert (type(head), head.scale, head.units, head.name) == (MyHead, 5.0, 3, "myhead")


def test_a_head_as_keras_serialises_it_is_taken():
    head = MarginSoftmaxHead(7, CombinedMargin(m2=0.3, m3=0.1), scale=9.0)
    value = keras.saving.serialize_keras_object(head)
    del value["config"]["units"]
    changed = AM.replace(heads=[value])
    assert set(changed.heads[0]) == {"class_name", "config"}
    assert changed.heads[0]["config"]["margin"]["config"] == {"m1": 1.0, "m2": 0.3, "m3": 0.1, "gradient": "detached"}
    (made,) = head_layers(changed.heads, 7)
    config, expected = made.get_config(), head.get_config()
    assert {**config, "name": None} == {**expected, "name": None}


def nested(depth):
    """Margins in margins in margins, as JSON."""
    inner = '{"class_name": "NoMargin", "config": {"a": ' * depth + "1" + "}}" * depth
    return broken(lambda c: c["fields"]["heads"][0].update(config={"margin": "HERE"})).replace('"HERE"', inner)


@pytest.mark.parametrize("depth", [1, 100, 300, 440, 10_000])
def test_objects_in_objects_in_a_file(tmp_path, depth):
    (tmp_path / "recipe.json").write_text(nested(depth))
    with pytest.raises(ValueError, match=r"fit NoMargin|nested so deeply|not valid JSON|JSON can hold"):
        Recipe.load(tmp_path)


def test_serialized_refuses_what_a_recipe_may_not_hold():
    with pytest.raises(ValueError, match="`cls` must be one of"):
        serialized(keras.layers.Dense, units=3)


def test_a_margin_that_the_schedule_would_ignore_is_refused():
    soft, part = package.get("sphereface_r_v2_sfn"), "heads.0.config.margin"
    with pytest.raises(ValueError, match=r"end at the margin; change both. Received: a margin of 1.2, .* at 1.4"):
        soft.replace(**{f"{part}.config.margin": 1.2})
    with pytest.raises(ValueError, match=r"a margin of 0.3, .* at 0.4"):
        package.get("am_softmax_no_feature_norm").replace(**{f"{part}.config.margin": 0.3})
    shorter = serialized(PiecewiseConstantDecay, boundaries=[10, 20], values=[1.0, 1.1, 1.2])
    assert soft.replace(**{f"{part}.config.margin": 1.2, f"{part}_schedule": shorter})
    for margin in (serialized(AdditiveAngular, margin=0.5), serialized(CombinedMargin, m3=0.3)):
        with pytest.raises(ValueError, match="change both"):
            soft.replace(**{part: margin})


def test_a_ramp_is_the_formula():
    (head,) = head_layers(package.get("am_softmax_no_feature_norm").heads, 3)
    for step in (0, 1, 2, 7999, 8000, 8001):
        assert float(head.margin_schedule(step)) == pytest.approx(min(0.4, 5e-5 * step), abs=1e-6)


def test_a_recipe_that_could_not_be_read_back_is_not_saved(tmp_path):
    for recipe in (Recipe(), Recipe(name=AM.name), NormFaceCasia(name=AM.name)):
        with pytest.raises(ValueError, match=r"registered class.*Received: a \w+ called"):
            recipe.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_describe_says_what_is_changed():
    rows = {row.field: row for row in AM.replace(steps=5, **{"backbone_options.variant": "caffe"}).describe()}
    assert rows["steps"] == package.Row(
        "steps", "5", "was 30000: prototxt/face_solver.prototxt, authors' code", "changed"
    )
    assert rows["backbone_options.variant"].source == "was not there"
    assert rows["learning_rate"].certainty == "authors' code"
    text = package.table(rows.values())
    assert len(text.splitlines()) == len(rows) + 1
    assert "steps" in text


@settings(deadline=None, max_examples=10)
@given(
    changes=st.fixed_dictionaries(
        {
            "learning_rate": st.floats(1e-9, 10.0),
            "weight_decay": st.floats(0.0, 1.0),
            "milestones": st.lists(st.integers(1, 10**6), unique=True).map(sorted),
            "embedding_dim": st.integers(1, 4096),
            "excluded_identities": st.lists(st.text(max_size=5), max_size=3),
            "multipliers": st.lists(
                st.tuples(st.sampled_from(["bias$", "a|b", "é"]), st.floats(0, 9), st.floats(0, 9))
            ),
            "heads.0.config.scale": st.floats(0.1, 99.0),
        }
    )
)
def test_any_recipe_comes_back_equal(tmp_path_factory, changes):
    recipe = AM.replace(**changes)
    directory = tmp_path_factory.mktemp("recipe")
    assert recipe.save(directory) == str(directory / "recipe.json")
    assert Recipe.load(directory) == recipe
    assert json.loads((directory / "recipe.json").read_text("utf-8"))["fields"] == recipe.to_fields()


def test_saving_again_replaces_the_file(tmp_path):
    AM.save(tmp_path / "new" / "deep")
    AM.replace(steps=7).save(tmp_path / "new" / "deep")
    assert Recipe.load(tmp_path / "new" / "deep").steps == 7
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["recipe.json"]


def broken(change):
    content = {**files.FORMAT.head, "recipe": AM.name, "fields": AM.to_fields()}
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[" * 100000, "is not valid JSON"),
        ("[]", r"recipe\.json is not valid: .* dictionary"),
        ("{}", "`format` must be 'keras_normface.recipe'"),
        (" " * ((1 << 20) + 1), "at most 1048576 bytes"),
        (broken(lambda c: c.update(version=1)), "`version` must be 3. Received: version=1"),
        (broken(lambda c: c.update(more=2)), "must have the keys"),
        (broken(lambda c: c.update(recipe="other")), "must be one of adaface_casia, am_softmax_casia"),
        (broken(lambda c: c.update(recipe=["a"])), "must be one of adaface_casia, am_softmax_casia"),
        (broken(lambda c: c.update(fields=3)), "`fields` must be those of .* Missing: .*steps"),
        (broken(lambda c: c["fields"].update(colour="red")), r"unknown: \['colour'\]"),
        (broken(lambda c: c["fields"].pop("steps")), r"Missing: \['steps'\]"),
        (broken(lambda c: c["fields"].update(steps="many")), "`steps` must be a positive integer"),
        (broken(lambda c: c["fields"]["heads"][0].update(class_name="os.system")), "`heads.0.class_name` must be one"),
        (broken(lambda c: c["fields"].update(backbone="__import__")), "`backbone` must be one of"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Recipe.load(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Recipe.load(tmp_path)


def test_a_recipe_of_ones_own(tmp_path):
    @package.experiment("of_my_own")
    class Mine(NormFaceCasia):
        """Mine."""

        name: str = "of_my_own"
        steps: int = 12

    try:
        package.get("of_my_own").save(tmp_path)
        assert Recipe.load(tmp_path) == Mine()
        assert "steps = 12" in Mine.__doc__
    finally:
        package.forget("of_my_own")
    assert describe.source_of("steps", Mine.sources).certainty == "ours"
