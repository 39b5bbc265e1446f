"""The published networks in PyTorch, with the published names of their tensors. Needs torch."""

import torch
from torch import nn

CHANNELS = (64, 128, 256, 512)


def conv(before, after, stride=1, bias=False, size=3):
    return nn.Conv2d(before, after, size, stride, size // 2, bias=bias)


class IUnit(nn.Module):
    def __init__(self, before, after, stride, norm):
        super().__init__()
        self.bn1, self.conv1 = norm(before), conv(before, after)
        self.bn2, self.prelu = norm(after), nn.PReLU(after)
        self.conv2, self.bn3 = conv(after, after, stride), norm(after)
        self.downsample = None
        if stride == 2:
            self.downsample = nn.Sequential(conv(before, after, 2, size=1), norm(after))

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """InsightFace's and OpenSphere's `iresnet.py`, and with its `options` MagFace's; `area` is 7 * 7 there."""

    def __init__(self, units, area=49, dim=512, **options):
        super().__init__()

        def norm(channels):
            return nn.BatchNorm2d(channels, **options)

        self.conv1, self.bn1, self.prelu = conv(3, 64), norm(64), nn.PReLU(64)
        before = 64
        for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), start=1):
            rest = [IUnit(channels, channels, 1, norm) for _ in range(count - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(IUnit(before, channels, 2, norm), *rest))
            before = channels
        self.bn2, self.fc, self.features = norm(512), nn.Linear(512 * area, dim), nn.BatchNorm1d(dim, **options)
        self.features.weight.requires_grad = bool(options)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.features(self.fc(torch.flatten(x, 1)))


MAGFACE = {"eps": 2e-5, "momentum": 0.9}


class AdaUnit(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        widening = nn.Sequential(conv(before, after, stride, size=1), nn.BatchNorm2d(after))
        self.shortcut_layer = nn.MaxPool2d(1, stride) if before == after else widening
        first = (nn.BatchNorm2d(before), conv(before, after), nn.BatchNorm2d(after), nn.PReLU(after))
        self.res_layer = nn.Sequential(*first, conv(after, after, stride), nn.BatchNorm2d(after))

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFace(nn.Module):
    """AdaFace's and CVLface's IR networks before the embedding is normalised; `area` is 7 * 7 there."""

    def __init__(self, units, area=49, dim=512):
        super().__init__()
        self.input_layer = nn.Sequential(conv(3, 64), nn.BatchNorm2d(64), nn.PReLU(64))
        body, before = [], 64
        for channels, count in zip(CHANNELS, units, strict=True):
            body += [AdaUnit(before, channels, 2)] + [AdaUnit(channels, channels, 1) for _ in range(count - 1)]
            before = channels
        self.body = nn.Sequential(*body)
        end = (nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * area, dim), nn.BatchNorm1d(dim, affine=False))
        self.output_layer = nn.Sequential(nn.BatchNorm2d(512), *end)

    def forward(self, x):
        return self.output_layer(self.body(self.input_layer(x)))


class SFUnit(nn.Module):
    """A stage's first convolution (`stride=2`), or a residual unit of two."""

    def __init__(self, before, after, stride, norm):
        super().__init__()
        make_norm = nn.BatchNorm2d if norm else nn.Identity
        self.conv1, self.bn1, self.relu = conv(before, after, stride, not norm), make_norm(after), nn.ReLU()
        self.residual = stride == 1
        if self.residual:
            self.conv2, self.bn2 = conv(after, after, 1, not norm), make_norm(after)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(x + self.bn2(self.conv2(y))) if self.residual else y


class SFNet(nn.Module):
    """OpenSphere's `sfnet.py`; `area` is 7 * 7 there."""

    def __init__(self, units, norm, area=49, dim=512):
        super().__init__()
        before = 3
        for stage, (channels, count) in enumerate(zip(CHANNELS, units, strict=True), start=1):
            rest = [SFUnit(channels, channels, 1, norm) for _ in range(count)]
            setattr(self, f"layer{stage}", nn.Sequential(SFUnit(before, channels, 2, norm), *rest))
            before = channels
        self.fc, self.features = nn.Linear(512 * area, dim), nn.BatchNorm1d(dim) if norm else nn.Identity()

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(x, 1)))


class CaffeUnit(nn.Module):
    """PReLU after each of two convolutions, also before the sum."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels, channels), nn.PReLU(channels), conv(channels, channels), nn.PReLU(channels)
        )

    def forward(self, x):
        return x + self.layers(x)


def caffe_sphereface(units, area=49, dim=512):
    """`sphereface_model.prototxt`."""
    layers, before = [], 3
    for channels, count in zip(CHANNELS, units, strict=True):
        layers += [conv(before, channels, 2, True), nn.PReLU(channels)]
        layers += [CaffeUnit(channels) for _ in range(count)]
        before = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512 * area, dim))


def randomise(network, seed=0):
    """Fill parameters and statistics so that every layer matters, and go to evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.2, generator=generator)
            else:
                tensor.uniform_(0.4, 1.6, generator=generator)
    return network.eval()
