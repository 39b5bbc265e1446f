"""What projects call the tensors of a network in PyTorch, and what else the checkpoints of their training hold."""

import dataclasses
import re

from keras_normface.backbones._blocks import EMBEDDING
from keras_normface.backbones._iresnet import FixedScaleBatchNorm


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names of one project: of the modules by ours, what begins them in a checkpoint of training, its head's."""

    table: tuple
    within: str | None = None
    beside: frozenset = frozenset()

    def holds_head(self, names):
        """Whether the names are of a checkpoint of training, where the network is one module of several."""
        first = f"{self.table[0][1]}.weight"
        return self.within is not None and any(f"{self.within}{part}{first}" in names for part in ("", "module."))


# IResNet's units begin at 0 in PyTorch; SFNet's do not, because the convolution before a stage's units is number 0.
# AdaFace and CVLface count them through all stages.
INSIGHTFACE = Layout(
    (
        (r"stem_conv", "conv1"),
        (r"stem_bn", "bn1"),
        (r"stem_prelu", "prelu"),
        (r"stage(\d+)_unit(\d+)_(bn\d|conv\d|prelu)", "layer{0}.{before}.{2}"),
        (r"stage(\d+)_unit(\d+)_shortcut_conv", "layer{0}.{before}.downsample.0"),
        (r"stage(\d+)_unit(\d+)_shortcut_bn", "layer{0}.{before}.downsample.1"),
        (r"final_bn", "bn2"),
        (r"fc", "fc"),
        (r"embedding", "features"),
    )
)
MAGFACE = Layout(INSIGHTFACE.table, "features.", frozenset({"fc.weight", "parallel_fc.weight"}))
ADAFACE = Layout(
    (
        (r"stem_conv", "input_layer.0"),
        (r"stem_bn", "input_layer.1"),
        (r"stem_prelu", "input_layer.2"),
        *(
            (rf"stage(\d+)_unit(\d+)_{part}", f"body.{{place}}.res_layer.{number}")
            for number, part in enumerate(("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"))
        ),
        (r"stage(\d+)_unit(\d+)_shortcut_conv", "body.{place}.shortcut_layer.0"),
        (r"stage(\d+)_unit(\d+)_shortcut_bn", "body.{place}.shortcut_layer.1"),
        (r"final_bn", "output_layer.0"),
        (r"fc", "output_layer.3"),
        (r"embedding", "output_layer.4"),
    ),
    "model.",
    frozenset(f"head.{name}" for name in ("kernel", "t", "batch_mean", "batch_std")),
)
SFNET = (
    (r"stage(\d+)_(conv|bn)", "layer{0}.0.{1}1"),
    (r"stage(\d+)_unit(\d+)_(conv\d|bn\d)", "layer{0}.{1}.{2}"),
)
SFNET_ENDS = {True: ((r"fc", "fc"), (r"embedding", "features")), False: ((r"embedding", "fc"),)}
# A name that some networks have alone, their layouts, and how to make them here.
MARKS = {
    "input_layer.0.weight": ((ADAFACE,), 'IResNet(..., variant="adaface")'),
    "model.input_layer.0.weight": ((ADAFACE,), 'IResNet(..., variant="adaface")'),
    "features.conv1.weight": ((MAGFACE,), 'IResNet(..., variant="magface")'),
    "features.module.conv1.weight": ((MAGFACE,), 'IResNet(..., variant="magface")'),
    "layer1.0.downsample.0.weight": ((INSIGHTFACE, MAGFACE), 'IResNet(..., variant="insightface")'),
}


def layout_of(model):
    """Return the layout of the project that published the model."""
    names = {layer.name for layer in model.layers}
    if {"stem_bn", "final_bn", "flatten", EMBEDDING} <= names:
        end = model.get_layer(EMBEDDING)
        if isinstance(end, FixedScaleBatchNorm):
            return INSIGHTFACE
        return MAGFACE if end.scale else ADAFACE
    if {"stage1_relu", "flatten"} <= names:
        return Layout(SFNET + SFNET_ENDS["fc" in names])
    raise ValueError(
        '`model` must be an IResNet or a SphereFaceNet with variant="opensphere". '
        f"Received: a model {model.name!r} with the layers {sorted(names)[:5]}..."
    )


def module_names(model, table):
    """By the names of the model's layers with weights, those of PyTorch's modules."""
    units = [name.removesuffix("_add") for name in (layer.name for layer in model.layers) if name.endswith("_add")]
    places = {unit: place for place, unit in enumerate(units)}
    return {layer.name: _module_name(layer.name, table, places) for layer in model.layers if layer.weights}


def other_network(layout, names):
    """Say which network has tensors with such names, or nothing if it may be this one."""
    found = next((call for mark, (own, call) in MARKS.items() if mark in names and layout not in own), None)
    return f", but have the names of {found}" if found else ""


def _module_name(layer_name, table, places):
    for pattern, template in table:
        found = re.fullmatch(pattern, layer_name)
        if found:
            groups = found.groups()
            before = int(groups[1]) - 1 if len(groups) > 1 and groups[1].isdigit() else 0
            place = next((place for unit, place in places.items() if layer_name.startswith(f"{unit}_")), 0)
            return template.format(*groups, before=before, place=place)
    raise ValueError(f"`model` must be as its function returned it. Received: a model with a layer {layer_name!r}")
