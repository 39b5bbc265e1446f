"""check_model and ScaleMonitor: the two nets under people who swap losses or forget the scale."""

import contextlib
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_normface import (
    AgentContrastiveHead,
    AgentContrastiveLoss,
    AgentTripletLoss,
    CosineDense,
    DistributedModel,
    EmbeddingModel,
    LearnableScale,
    MarginSoftmaxHead,
    NormFaceLoss,
    Preprocessing,
    check_model,
    softmax_loss_lower_bound,
)
from keras_normface.layers import PixelScaling
from keras_normface.training import ScaleMonitor
from tests.support.helpers import to_numpy


def model_of(*layers, loss):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), *layers])
    model.compile("sgd", loss)
    return model


def joint(losses, **compile_options):
    tensor = keras.Input((6,))
    embedding = keras.layers.Dense(4)(tensor)
    logits = LearnableScale(name="logits")(CosineDense(5)(embedding))
    model = keras.Model(tensor, [logits, CosineDense(5, name="agents")(embedding)])
    model.compile("sgd", losses, **compile_options)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(CosineDense(5), LearnableScale(), loss=NormFaceLoss()),
        lambda: model_of(CosineDense(5), loss=NormFaceLoss(scale=20.0)),
        lambda: model_of(CosineDense(5), loss=AgentContrastiveLoss()),
        lambda: model_of(CosineDense(5, normalize_inputs=False), loss=NormFaceLoss()),
        lambda: model_of(keras.layers.Dense(5), loss=NormFaceLoss()),
        lambda: model_of(CosineDense(5), LearnableScale(), loss="sparse_categorical_crossentropy"),
        lambda: joint([NormFaceLoss(), AgentContrastiveLoss()], loss_weights=[1, 0.01]),
        lambda: joint({"logits": NormFaceLoss(), "agents": AgentTripletLoss()}),
    ],
)
def test_right_pairs_pass(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_model(make())


def test_bare_cosines_warn_and_name_the_bound():
    bound = f"{softmax_loss_lower_bound(5, 1.0):.4g}"
    with pytest.warns(UserWarning, match=f"CosineDense\\(5\\).*below {bound}"):
        check_model(model_of(CosineDense(5), loss=NormFaceLoss()))


@pytest.mark.parametrize("loss", [AgentContrastiveLoss(), AgentTripletLoss(), NormFaceLoss(scale=20.0)])
def test_losses_on_cosines_refuse_logits(loss):
    with pytest.raises(ValueError, match=f"{type(loss).__name__}.*expects cosines.*LearnableScale 'scale'"):
        check_model(model_of(CosineDense(5), LearnableScale(name="scale"), loss=loss))


def test_it_sees_through_linear_activations_and_into_joint_models():
    linear = keras.layers.Activation("linear", dtype="float32")
    with pytest.raises(ValueError, match="expects cosines"):
        check_model(model_of(CosineDense(5), LearnableScale(), linear, loss=AgentTripletLoss()))
    with pytest.raises(ValueError, match="Output 'logits'"):
        check_model(joint({"logits": AgentContrastiveLoss(), "agents": AgentTripletLoss()}))


def test_an_uncompiled_model_is_refused():
    with pytest.raises(ValueError, match="must be compiled"):
        check_model(keras.Sequential([keras.Input((3,)), CosineDense(2)]))


def test_a_model_without_losses_of_its_own():
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    check_model(EmbeddingModel(backbone, AgentContrastiveHead(2)))
    check_model(backbone, data=lambda epoch, step: None)  # neither losses nor preprocessing


def separable(classes=6):
    # one sample a class, in opposite or orthogonal directions: the network has nothing left to learn
    return np.eye(classes, dtype="float32"), np.arange(classes)


def test_monitor_warns_once_when_training_sits_on_the_bound():
    x, y = separable()
    model = keras.Sequential([keras.Input((6,)), CosineDense(6, kernel_initializer=keras.initializers.Identity())])
    centred = x - x.mean(axis=0)
    model.compile(keras.optimizers.SGD(0.0), NormFaceLoss())
    model.set_weights([centred])
    with pytest.warns(UserWarning, match="sits on") as caught:
        history = model.fit(centred, y, epochs=3, verbose=0, callbacks=[ScaleMonitor()]).history
    assert len([w for w in caught if "sits on" in str(w.message)]) == 1
    assert history["scale"] == [1.0] * 3
    assert history["loss_lower_bound"] == [softmax_loss_lower_bound(6, 1.0)] * 3
    assert history["loss"][0] == pytest.approx(history["loss_lower_bound"][0], rel=1e-4)


def test_monitor_is_silent_when_the_scale_is_large_and_follows_it():
    x, y = separable()
    layer = LearnableScale(20.0)
    model = keras.Sequential([keras.Input((6,)), CosineDense(6), layer])
    model.compile(keras.optimizers.SGD(0.5), NormFaceLoss())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = model.fit(x, y, epochs=2, verbose=0, callbacks=[ScaleMonitor()]).history
    assert history["scale"][-1] == pytest.approx(float(layer.scale), rel=1e-6)
    assert history["scale"][0] != history["scale"][1]


def test_monitor_in_a_joint_model_needs_to_be_told():
    x, y = separable()
    model = joint([NormFaceLoss(), AgentContrastiveLoss(negative_margin=0.5)])
    with pytest.raises(ValueError, match=r"`num_classes`.*2 such layers"):
        model.fit(x, [y % 5, y % 5], verbose=0, callbacks=[ScaleMonitor()])
    history = model.fit(
        x, [y % 5, y % 5], verbose=0, callbacks=[ScaleMonitor(num_classes=5, loss_name="logits_loss")]
    ).history
    assert history["scale"][0] == pytest.approx(10.0, abs=1.0)


def test_monitor_without_a_scale_is_refused():
    x, y = separable()
    model = keras.Sequential([keras.Input((6,)), CosineDense(6)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="exactly one LearnableScale"):
        model.fit(x, y, verbose=0, callbacks=[ScaleMonitor()])


@pytest.mark.parametrize("scale", [3.0, "learnable"])
def test_monitor_looks_into_the_margin_softmax_head_of_an_embedding_model(scale):
    x, y = separable()
    scale = LearnableScale(3.0) if scale == "learnable" else scale
    soft = MarginSoftmaxHead(6, scale=scale, loss_weight=0.5)
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model = EmbeddingModel(backbone, [soft, AgentContrastiveHead(6)])
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[ScaleMonitor()]).history
    now = to_numpy(soft.current_scale)
    assert history["scale"][-1] == pytest.approx(float(now), rel=1e-6)
    assert history["loss_lower_bound"][-1] == pytest.approx(0.5 * softmax_loss_lower_bound(6, float(now)), rel=1e-5)
    assert (history["scale"][0] != history["scale"][1]) == isinstance(scale, LearnableScale)


def test_sphere_model_fits_functionally_on_any_backend():
    x, y = separable()
    inputs = keras.Input((6,))
    model = DistributedModel(inputs, CosineDense(6)(keras.layers.Dense(4)(inputs)))
    model.compile(keras.optimizers.SGD(0.5), NormFaceLoss(scale=20.0), jit_compile=True)
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


SMALL = Preprocessing(size=(4, 3))


@pytest.mark.parametrize(
    ("size", "own", "data", "scale", "message"),
    [
        ((4, 3, 3), None, SMALL, True, None),
        ((4, 3, 3), SMALL, SMALL, False, None),
        ((None, None, 3), None, SMALL, True, None),
        ((4, 3, 3), None, SMALL, False, "scaled nowhere"),
        ((4, 3, 3), SMALL, SMALL, True, "scaled twice"),
        ((4, 3, 3), SMALL, SMALL.replace(channels="BGR"), False, "channels: data 'BGR', model 'RGB'"),
        ((4, 3, 1), None, SMALL, True, r"data of .* \(4, 3, 3\), a model that takes \(4, 3, 1\)"),
        ((4, 4, 3), None, SMALL, True, r"takes \(4, 4, 3\)"),
        ((4, 3, 1), None, SMALL.replace(channels="GRAY"), True, None),
    ],
)
def test_model_and_data_must_treat_pixels_alike(size, own, data, scale, message):
    inputs = keras.Input(size)
    scaled = inputs if own is None else PixelScaling(own)(inputs)
    # nested, as in an EmbeddingModel over a backbone
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(scaled))
    model = EmbeddingModel(backbone, [AgentContrastiveHead(2)])
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_model(model, SimpleNamespace(preprocessing=data, scale=scale))
