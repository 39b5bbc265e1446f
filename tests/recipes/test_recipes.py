"""Every recipe: its numbers, what it builds, three steps, the file it writes."""

import dataclasses
import math
import re

import keras
import numpy as np
import pytest
from keras.optimizers.schedules import PiecewiseConstantDecay

from keras_normface import AgentTripletHead, CoupledSGD, LearnableScale, MarginSoftmaxHead
from keras_normface import recipes as package
from keras_normface.data import CASIA_LFW_OVERLAP, IdentityFolder
from keras_normface.heads import AgentContrastiveHead, SoftmaxHead
from keras_normface.recipes import _components as networks
from keras_normface.recipes import _registry as describe
from keras_normface.recipes._components import head_layers, multistep
from tests.support import tiny_recipe

NAMES = package.NAMES
# By hand, from the papers and the authors' files: rate, drops, batch, steps, wd, momentum.
NUMBERS = {
    "normface_casia": (0.1, (16000, 24000, 28000), 256, 30000),
    "normface_finetune": (1e-3, (), 256, 10000),
    "normface_finetune_lightcnn": (1e-4, (), 256, 10000),
    "normface_contrastive": (1e-3, (), 256, 10000),
    "normface_triplet": (1e-3, (), 256, 10000),
    "normface_joint": (1e-3, (), 256, 10000),
    "l2_softmax": (0.1, (16000, 24000, 28000), 256, 30000),
    "am_softmax_casia": (0.1, (16000, 24000, 28000), 256, 30000),
    "am_softmax_no_feature_norm": (0.1, (16000, 24000, 28000), 256, 30000),
    "normface_ready": (1e-5, (), 32, 120),
    "adaface_casia": (0.1, (16000, 24000, 28000), 256, 30000),
    "magface_casia": (0.1, (16000, 24000, 28000), 256, 30000),
    "curricularface_casia": (0.1, (16000, 24000, 28000), 256, 30000),
    "mobilefacenet_distilled": (0.1, (16000, 24000, 28000), 256, 30000),
    "sphereface_r_v1": (0.1, (40000, 60000), 512, 70000),
    "sphereface_r_v2": (0.1, (40000, 60000), 512, 70000),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setitem(networks.OURS, "SphereFaceNet", tiny_recipe.tiny_network)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers(name):
    recipe = package.get(name)
    expected = NUMBERS[re.sub("_[hsn]fn$", "", name)]
    assert (recipe.learning_rate, recipe.milestones, recipe.batch_size, recipe.steps) == expected
    assert (recipe.momentum, recipe.weight_decay, recipe.learning_rate_factor) == (0.9, 5e-4, 0.1)
    assert recipe.initial_weights_needed == bool(re.search("finetune|contrastive|triplet|joint|ready", name))
    on_casia = not re.search("sphereface|ready|distilled", name)
    assert recipe.excluded_identities == (tuple(sorted(CASIA_LFW_OVERLAP)) if on_casia else ())
    assert (recipe.initial_centers, recipe.frozen_steps) == (("class_means", 200) if "ready" in name else ("random", 0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 3


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_its_source_in_the_docstring(name):
    recipe = package.get(name)
    for field, value in describe.leaves(recipe.to_fields()).items():
        if field == "preprocessing.version":  # of the file format
            continue
        source = describe.source_of(field, recipe.sources)
        assert source is not None, f"{name}: {field} has no source"
        assert source.text
        assert source.certainty in package.CERTAINTIES
        if recipe.heads == type(recipe)().heads or not field.startswith("heads."):  # the docstring is that of the class
            assert f"- {field} = {describe.as_text(value)}: {source.text} ({source.certainty})." in type(recipe).__doc__
    known = set(recipe.to_fields())
    assert {field.split(".")[0] for field in recipe.sources} <= known
    assert not [row for row in recipe.describe() if row.certainty == "changed"]


@pytest.mark.parametrize("name", NAMES)
def test_three_steps_and_the_file(name, tmp_path):
    recipe = tiny_recipe.shrunk(name)
    model, losses = tiny_recipe.trained(recipe)
    assert np.isfinite(losses).all()
    assert int(model.optimizer.iterations) == tiny_recipe.STEPS

    recipe.save(tmp_path)
    assert package.Recipe.load(tmp_path) == recipe == package.read(tmp_path / "recipe.json")
    assert type(package.Recipe.load(tmp_path)) is type(recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


@pytest.mark.parametrize("name", ["normface_joint", "l2_softmax", "sphereface_r_v1_sfn"])
def test_a_model_is_saved_and_trains_on(name, tmp_path):
    recipe = tiny_recipe.shrunk(name)
    model, _ = tiny_recipe.trained(recipe)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, CoupledSGD)
    assert loaded.optimizer.multipliers == recipe.multipliers
    loaded.run_eagerly = True
    x, y = tiny_recipe.images(recipe, 4)
    model.reset_metrics()  # before Keras 3.15 `train_on_batch` returns means since the last reset
    assert float(loaded.train_on_batch(x, y)[0]) == pytest.approx(float(model.train_on_batch(x, y)[0]), rel=1e-5)
    np.testing.assert_allclose(loaded(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-6)


def test_under_xla_as_without():
    recipe = tiny_recipe.shrunk("normface_joint")
    _, plain_losses = tiny_recipe.trained(recipe)
    _, losses = tiny_recipe.trained(recipe, run_eagerly=False, jit_compile=True)
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_variables_that_should_are_decayed(name):
    # By hand: Caffe's recipes exempt biases, the contrastive and triplet ones the agents too; PyTorch's decay all.
    recipe = tiny_recipe.shrunk(name)
    model, optimizer = recipe.build(tiny_recipe.CLASSES), recipe.optimizer()
    optimizer.build(model.trainable_variables)
    spared = []
    for variable in model.trainable_variables:
        before = np.array(variable.numpy()) + 1.0
        variable.assign(before)
        optimizer.update_step(np.zeros_like(before), variable, 0.5)
        after = np.array(variable.numpy())
        if (after == before).all():
            spared.append(variable.path)
        else:
            np.testing.assert_allclose(after, before * (1 - 0.5 * 5e-4), rtol=1e-6, atol=1e-7)
    paths = [variable.path for variable in model.trainable_variables]
    if "sphereface_r" in name or name in ("normface_ready", "adaface_casia", "magface_casia", "curricularface_casia"):
        assert spared == []
    elif name in ("normface_contrastive", "normface_triplet"):
        assert spared == [path for path in paths if path.endswith("/bias") or name in path]
    else:
        assert spared == [path for path in paths if path.endswith("/bias")]
        assert any("scale" in path for path in paths) == name.startswith(("normface", "mobilefacenet"))


def test_biases_learn_twice_as_fast_in_caffes_recipes():
    recipe = tiny_recipe.shrunk("am_softmax_casia")
    model, optimizer = recipe.build(tiny_recipe.CLASSES), recipe.optimizer()
    optimizer.build(model.trainable_variables)
    bias = next(v for v in model.trainable_variables if v.path == "embedding/bias")
    optimizer.update_step(np.ones(8, "float32"), bias, 0.5)
    np.testing.assert_allclose(bias.numpy(), -1.0)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("am_softmax_casia", {0: 0.1, 15999: 0.1, 16000: 0.01, 23999: 0.01, 24000: 1e-3, 27999: 1e-3, 28000: 1e-4}),
        ("sphereface_r_v2", {39999: 0.1, 40000: 0.01, 59999: 0.01, 60000: 1e-3, 69999: 1e-3}),
    ],
)
def test_the_rate_drops_at_the_milestone_itself(name, rates):
    schedule = package.get(name).learning_rate_schedule()
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-6), step


def test_without_milestones_the_rate_is_a_number():
    assert package.get("normface_finetune").learning_rate_schedule() == 1e-3
    assert multistep(0.5, (), 0.1) == 0.5


def test_the_rate_in_training_drops_at_the_milestone():
    recipe = tiny_recipe.shrunk("am_softmax_casia", milestones=[2], learning_rate=0.5)
    model, rates = recipe.build_compiled(tiny_recipe.CLASSES, run_eagerly=True, jit_compile=False), []
    x, y = tiny_recipe.images(recipe, 4)
    for _ in range(4):
        rates.append(float(model.optimizer.learning_rate))
        model.train_on_batch(x, y)
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05])


@pytest.mark.parametrize(("name", "last", "rises"), [("v1", 1.5, 5), ("v2", 1.4, 4)])
def test_the_margin_rises_without_the_hard_norm(name, last, rises):
    hard, soft, none = (
        head_layers(package.get(f"sphereface_r_{name}_{norm}").heads, 3)[0] for norm in ("hfn", "sfn", "nfn")
    )
    assert hard.margin_schedule is None
    assert hard.current_margin == last
    for head in (soft, none):
        assert [round(float(head.margin_schedule(step)), 4) for step in (0, 4999, 5000, 9999, 10000)] == [
            1.0, 1.0, 1.1, 1.1, 1.2,
        ]  # fmt: skip
        assert float(head.margin_schedule(5000 * rises - 1)) == pytest.approx(last - 0.1)
        assert float(head.margin_schedule(5000 * rises)) == pytest.approx(last)
    scale = hard.scale
    assert (hard.loss_weight, soft.loss_weight, none.loss_weight) == (50 / scale, 50 / scale, 1.0)
    assert soft.norm_weight == 0.01
    assert scale == {"v1": 30.0, "v2": 60.0}[name]
    assert hard.margin.variant == name
    assert [head.feature_norm for head in (hard, soft, none)] == ["hard", "soft", "none"]


def test_the_margin_rises_in_training():
    schedule = package.serialized(PiecewiseConstantDecay, boundaries=[0, 1], values=[1.0, 1.1, 1.2])
    changes = {"heads.0.config.margin_schedule": schedule, "heads.0.config.margin.config.margin": 1.2}
    model, _ = tiny_recipe.trained(tiny_recipe.shrunk("sphereface_r_v1_nfn", **changes))
    assert float(model.heads[0].current_margin) == pytest.approx(1.2)


def test_am_softmax_without_feature_norm_ramps_its_margin():
    (head,) = head_layers(package.get("am_softmax_no_feature_norm").heads, 3)
    assert head.feature_norm == "none"
    margins = [float(head.margin_schedule(step)) for step in (0, 1000, 7999, 8000, 30000)]
    assert margins == pytest.approx([0.0, 0.05, 0.39995, 0.4, 0.4])


def test_the_heads():
    softmax = tiny_recipe.shrunk("normface_casia").build(5).heads[0]
    assert isinstance(softmax.scale, LearnableScale)
    assert (softmax.scale.initial_value, softmax.scale.minimum) == (10.0, 0.01)

    joint = tiny_recipe.shrunk("normface_joint").build(5)
    assert joint.head_weights == [1.0, 0.01]
    assert [head.name for head in joint.heads] == ["softmax", "contrastive"]
    assert joint.heads[0].kernel is not joint.heads[1].kernel
    assert joint.heads[0].scale.initial_value == 4.0

    triplet = tiny_recipe.shrunk("normface_triplet").build(5).heads[0]
    assert isinstance(triplet, AgentTripletHead)
    assert triplet.get_config()["hardest_negative_only"]
    assert triplet.get_config()["positive_pull"]
    assert triplet.get_config()["margin"] == 0.8

    l2 = tiny_recipe.shrunk("l2_softmax").build(5).heads[0]
    assert isinstance(l2, SoftmaxHead)
    assert l2.scale == 16.0
    assert l2.bias.shape == (5,)

    (am,) = head_layers(package.get("am_softmax_casia").heads, 5)
    assert isinstance(am, MarginSoftmaxHead)
    assert (am.scale, am.margin.value, am.margin.only_above_margin) == (30.0, 0.35, False)


def test_two_heads_of_one_kind_have_two_names():
    heads = [package.serialized(AgentContrastiveHead)] * 2
    model = tiny_recipe.shrunk("normface_joint", heads=heads, head_weights=[1.0, 0.5]).build(5)
    assert model.head_weights == [1.0, 0.5]
    assert [head.name for head in model.heads] == ["contrastive", "contrastive1"]


def test_projected_class_centres_stay_unit():
    constraint = package.serialized(keras.constraints.UnitNorm, axis=1)
    recipe = tiny_recipe.shrunk("am_softmax_casia", **{"heads.0.config.kernel_constraint": constraint})
    model, _ = tiny_recipe.trained(recipe)
    np.testing.assert_allclose(np.linalg.norm(model.heads[0].kernel.numpy(), axis=1), 1.0, rtol=1e-5)


def test_any_network_of_keras_serves():
    recipe = tiny_recipe.shrunk(
        "am_softmax_casia", backbone="MobileNet", backbone_options={"alpha": 0.25}, dropout=0.1,
        **{"preprocessing.size": [32, 32]},
    )  # fmt: skip
    model = recipe.build(5)
    assert model.backbone.output_shape == (None, 8)
    assert model.backbone.layers[-1].name == "embedding"
    assert "softmax/kernel" in model.trainable_variables[-1].path


def test_pixels_are_scaled_once():
    def made(name, scale, **options):
        changes = {"preprocessing.size": [32, 32], "preprocessing.scale": scale, "preprocessing.offset": 0}
        return tiny_recipe.shrunk("am_softmax_casia", backbone=name, backbone_options=options, **changes).build(2)

    assert not networks.scales_pixels(made("MobileNetV3Small", 1 / 255).backbone)
    assert networks.scales_pixels(made("MobileNetV3Small", 1, include_preprocessing=True).backbone)
    with pytest.raises(ValueError, match=r"`preprocessing` must .* MobileNetV3Small.*Received: scale=0\.0039.*twice"):
        made("MobileNetV3Small", 1 / 255, include_preprocessing=True)


def test_snapshots():
    assert package.get("normface_finetune").snapshot_steps == (6000, 7000, 8000, 9000, 10000)
    assert package.get("am_softmax_casia").snapshot_steps == ()
    assert package.get("normface_finetune").replace(steps=10).snapshot_steps == (6, 7, 8, 9, 10)
    with pytest.raises(ValueError, match="`steps` must have room for the snapshots"):
        package.get("normface_finetune").replace(steps=8)


def test_data_and_epochs(tmp_path):
    from tests.support import faces

    faces.write_folder(tmp_path, people=3, images=4)
    recipe = tiny_recipe.shrunk("am_softmax_casia", steps=7, **{"preprocessing.size": [112, 92]})
    data = recipe.data(IdentityFolder(tmp_path), seed=3)
    x, y = next(iter(data(0, 0)))
    assert (x.shape, y.shape) == ((4, 112, 92, 3), (4,))
    assert -1.0 <= float(x.numpy().min()) <= float(x.numpy().max()) < 1.0  # (p − 128) / 128
    assert data.augmentation == recipe.augmentation
    assert recipe.epochs(data) == math.ceil(7 / 3) == 3
    assert recipe.replace(steps=6).epochs(data) == 2
    plain_data = recipe.data(IdentityFolder(tmp_path), augmentation=None)
    assert plain_data.augmentation is None
