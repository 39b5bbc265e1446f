"""The published networks once more: float64 NumPy, channels first, over tensors under their published names."""

import numpy as np

SPHEREFACE_UNITS = {4: [0, 0, 0, 0], 10: [0, 1, 2, 0], 20: [1, 2, 4, 1], 36: [2, 4, 8, 2], 64: [3, 8, 16, 3]}
IRESNET_UNITS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3]}


def conv(x, weight, bias=None, stride=1, pad=0):
    size = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
    out = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    return out if bias is None else out + bias[:, None, None]


def prelu(x, slope):
    return np.where(x > 0, x, x * slope.reshape(-1, 1, 1))


def batch_norm(x, p, name, eps=1e-5):
    shape = (-1, *[1] * (x.ndim - 2))
    mean, var = (p[f"{name}.{key}"].reshape(shape) for key in ("running_mean", "running_var"))
    x = (x - mean) / np.sqrt(var + eps)
    if f"{name}.weight" not in p:  # affine=False
        return x
    return x * p[f"{name}.weight"].reshape(shape) + p[f"{name}.bias"].reshape(shape)


def max_pool(x):
    """2×2, stride 2, a last odd row or column by itself."""
    odd = [(0, size % 2) for size in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), *odd), constant_values=-np.inf)
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def dense(x, p, name):
    return x.reshape(len(x), -1) @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def mfm(x, p, name, pad=1):
    y = conv(x, p[f"{name}.weight"], p[f"{name}.bias"], pad=pad) if x.ndim == 4 else dense(x, p, name)
    return np.maximum(*np.split(y, 2, 1))


def sphereface_caffe(p, x, units):
    """`sphereface_model.prototxt`: conv1_1 ... relu4_3, fc5."""
    for stage, count in enumerate(units, start=1):
        name = f"{stage}_1"
        x = prelu(conv(x, p[f"conv{name}.weight"], p[f"conv{name}.bias"], 2, 1), p[f"relu{name}.weight"])
        for unit in range(count):
            y = x
            for number in (2 * unit + 2, 2 * unit + 3):
                y = prelu(conv(y, p[f"conv{stage}_{number}.weight"], pad=1), p[f"relu{stage}_{number}.weight"])
            x = x + y
    return dense(x, p, "fc5")


def resnet27(p, x):
    """`face_deploy.prototxt`: conv1a, conv1b, pool1b, conv2_1 ... conv4, pool4, conv5_1 ... fc5."""
    x = prelu(conv(x, p["conv1a.weight"], p["conv1a.bias"]), p["relu1a.weight"])
    for stage, (entry, convolutions) in enumerate([("1b", 2), ("2", 4), ("3", 10), ("4", 6)], start=2):
        x = prelu(conv(x, p[f"conv{entry}.weight"], p[f"conv{entry}.bias"]), p[f"relu{entry}.weight"])
        x = max_pool(x)
        for unit in range(0, convolutions, 2):
            y = x
            for number in (unit + 1, unit + 2):
                y = prelu(conv(y, p[f"conv{stage}_{number}.weight"], pad=1), p[f"relu{stage}_{number}.weight"])
            x = x + y
    return dense(x, p, "fc5")


def light_cnn(p, x, blocks):
    """`light_cnn.py`: conv1, block1, group1, ..., fc. Nine layers are 29 without the blocks."""
    x = max_pool(mfm(x, p, "conv1.filter", 2))
    for stage, count in enumerate(blocks, start=1):
        for unit in range(count):
            x = x + mfm(mfm(x, p, f"block{stage}.{unit}.conv1.filter"), p, f"block{stage}.{unit}.conv2.filter")
        x = mfm(mfm(x, p, f"group{stage}.conv_a.filter", 0), p, f"group{stage}.conv.filter")
        x = x if stage == 3 else max_pool(x)
    return mfm(x.reshape(len(x), -1), p, "fc.filter")


def iresnet(p, x, layers, eps=1e-5):
    """`iresnet.py` in evaluation; MagFace's has an `eps` of 2e-5."""

    def norm(x, name):
        return batch_norm(x, p, name, eps)

    x = prelu(norm(conv(x, p["conv1.weight"], pad=1), "bn1"), p["prelu.weight"])
    for stage, count in enumerate(layers, start=1):
        for unit in range(count):
            name, stride = f"layer{stage}.{unit}", 1 if unit else 2
            y = conv(norm(x, f"{name}.bn1"), p[f"{name}.conv1.weight"], pad=1)
            y = prelu(norm(y, f"{name}.bn2"), p[f"{name}.prelu.weight"])
            y = norm(conv(y, p[f"{name}.conv2.weight"], stride=stride, pad=1), f"{name}.bn3")
            if not unit:
                x = norm(conv(x, p[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = x + y
    return norm(dense(norm(x, "bn2"), p, "fc"), "features")


def adaface(p, x, layers):
    """AdaFace's `net.py` and CVLface's `iresnet/model.py` in evaluation, before the embedding is normalised."""
    x = prelu(batch_norm(conv(x, p["input_layer.0.weight"], pad=1), p, "input_layer.1"), p["input_layer.2.weight"])
    for place, stride in enumerate(stride for count in layers for stride in [2] + [1] * (count - 1)):
        name = f"body.{place}.res_layer"
        y = conv(batch_norm(x, p, f"{name}.0"), p[f"{name}.1.weight"], pad=1)
        y = prelu(batch_norm(y, p, f"{name}.2"), p[f"{name}.3.weight"])
        y = batch_norm(conv(y, p[f"{name}.4.weight"], stride=stride, pad=1), p, f"{name}.5")
        shortcut = f"body.{place}.shortcut_layer"
        if f"{shortcut}.0.weight" in p:
            x = batch_norm(conv(x, p[f"{shortcut}.0.weight"], stride=stride), p, f"{shortcut}.1")
        else:
            x = x[:, :, ::stride, ::stride]
        x = x + y
    return batch_norm(dense(batch_norm(x, p, "output_layer.0"), p, "output_layer.3"), p, "output_layer.4")


def depthwise(x, weight, stride=1, pad=0):
    size = weight.shape[-2:]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,cij->nchw", windows, weight[:, 0])


def mobilefacenet(p, x, table):
    """Table 1 of the paper: the rows of bottlenecks are t, c, n, s. Layers are counted; `b` is their batch norm."""

    def activated(x, name):
        return prelu(batch_norm(x, p, f"{name}.b"), p[f"{name}.a"])

    x = activated(conv(x, p["0.weight"], stride=2, pad=1), "0")
    x = activated(depthwise(x, p["1.weight"], pad=1), "1")
    number = 2
    for _, channels, count, first in table:
        for stride in [first] + [1] * (count - 1):
            y = activated(conv(x, p[f"{number}.weight"]), f"{number}")
            y = activated(depthwise(y, p[f"{number + 1}.weight"], stride, 1), f"{number + 1}")
            y = batch_norm(conv(y, p[f"{number + 2}.weight"]), p, f"{number + 2}.b")
            x = x + y if stride == 1 and x.shape[1] == channels else y
            number += 3
    x = activated(conv(x, p[f"{number}.weight"]), f"{number}")
    x = batch_norm(depthwise(x, p[f"{number + 1}.weight"]), p, f"{number + 1}.b")
    x = x[:, :, 0, 0] @ p[f"{number + 2}.weight"].T
    return batch_norm(x, p, f"{number + 2}.b")


def sfnet(p, x, layers, norm):
    """`sfnet.py` in evaluation."""

    def conv_bn(x, name, number, stride=1):
        x = conv(x, p[f"{name}.conv{number}.weight"], p.get(f"{name}.conv{number}.bias"), stride, 1)
        return batch_norm(x, p, f"{name}.bn{number}") if norm else x

    for stage, count in enumerate(layers, start=1):
        x = np.maximum(conv_bn(x, f"layer{stage}.0", 1, 2), 0)
        for unit in range(1, count + 1):
            y = conv_bn(np.maximum(conv_bn(x, f"layer{stage}.{unit}", 1), 0), f"layer{stage}.{unit}", 2)
            x = np.maximum(x + y, 0)
    x = dense(x, p, "fc")
    return batch_norm(x, p, "features") if norm else x


def norm_shapes(name, channels):
    return {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}


def iresnet_shapes(layers, area, dim=512):
    """Names and shapes of a published state dict, without `num_batches_tracked`."""
    shapes = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,), **norm_shapes("bn1", 64)}
    before = 64
    for stage, (channels, count) in enumerate(zip((64, 128, 256, 512), layers, strict=True), start=1):
        for unit in range(count):
            name = f"layer{stage}.{unit}"
            shapes |= norm_shapes(f"{name}.bn1", before) | norm_shapes(f"{name}.bn2", channels)
            shapes |= norm_shapes(f"{name}.bn3", channels)
            shapes[f"{name}.conv1.weight"] = (channels, before, 3, 3)
            shapes[f"{name}.prelu.weight"] = (channels,)
            shapes[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            if not unit:
                shapes[f"{name}.downsample.0.weight"] = (channels, before, 1, 1)
                shapes |= norm_shapes(f"{name}.downsample.1", channels)
            before = channels
    shapes |= norm_shapes("bn2", 512) | norm_shapes("features", dim)
    return {**shapes, "fc.weight": (dim, 512 * area), "fc.bias": (dim,)}


def adaface_shapes(layers, area, dim=512):
    """Names and shapes of a published state dict, without `num_batches_tracked`."""
    shapes = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,), **norm_shapes("input_layer.1", 64)}
    before, place = 64, 0
    for channels, count in zip((64, 128, 256, 512), layers, strict=True):
        for _ in range(count):
            name = f"body.{place}.res_layer"
            shapes |= norm_shapes(f"{name}.0", before) | norm_shapes(f"{name}.2", channels)
            shapes |= norm_shapes(f"{name}.5", channels) | {f"{name}.3.weight": (channels,)}
            shapes[f"{name}.1.weight"] = (channels, before, 3, 3)
            shapes[f"{name}.4.weight"] = (channels, channels, 3, 3)
            if before != channels:
                shapes[f"body.{place}.shortcut_layer.0.weight"] = (channels, before, 1, 1)
                shapes |= norm_shapes(f"body.{place}.shortcut_layer.1", channels)
            before, place = channels, place + 1
    shapes |= norm_shapes("output_layer.0", 512)
    shapes |= {f"output_layer.4.{key}": (dim,) for key in ("running_mean", "running_var")}
    return {**shapes, "output_layer.3.weight": (dim, 512 * area), "output_layer.3.bias": (dim,)}


def sfnet_shapes(layers, norm, area, dim=512):
    """Names and shapes of a published state dict, without `num_batches_tracked`."""
    shapes, before = {"fc.weight": (dim, 512 * area), "fc.bias": (dim,)}, 3
    if norm:
        shapes |= norm_shapes("features", dim)
    for stage, (channels, count) in enumerate(zip((64, 128, 256, 512), layers, strict=True), start=1):
        for number in range(2 * count + 1):
            name = f"layer{stage}.{(number + 1) // 2}", "2" if number and not number % 2 else "1"
            shapes[f"{name[0]}.conv{name[1]}.weight"] = (channels, before, 3, 3)
            shapes |= norm_shapes(f"{name[0]}.bn{name[1]}", channels) if norm else {}
            shapes |= {} if norm else {f"{name[0]}.conv{name[1]}.bias": (channels,)}
            before = channels
    return shapes


def random_tensor(rng, name, shape):
    """A value for a tensor that lets every layer matter."""
    if len(shape) > 1:
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 2, shape)
    if name.endswith(("bias", "running_mean")):
        return rng.normal(size=shape) * 0.2
    return rng.uniform(0.3, 1.3, shape) * rng.choice([-1, 1], shape, p=[0.2, 0.8])


def dlib_resnet(p, x, stages):
    """dlib's network: `affine` behind every convolution; sums take the larger size, zeros for what is missing."""

    def affine(x, name, stride, pad):
        x = conv(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, pad)
        gamma, beta = (p[f"{name.replace('conv', 'affine')}.{key}"] for key in ("gamma", "beta"))
        return x * gamma[:, None, None] + beta[:, None, None]

    def pool(x, size, reduce):
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::2, ::2]
        return reduce(windows, axis=(4, 5))

    def larger_sum(a, b):
        total = np.zeros(np.maximum(a.shape, b.shape))
        for part in (a, b):
            total[tuple(map(slice, part.shape))] += part
        return total

    x = pool(np.maximum(affine(x, "stem_conv", 2, 0), 0), 3, np.max)
    for stage, (_, units) in enumerate(stages, start=1):
        for unit in range(1, units + 1):
            name, down = f"stage{stage}_unit{unit}", stage > 1 and unit == 1
            y = np.maximum(affine(x, f"{name}_conv1", 2 if down else 1, 0 if down else 1), 0)
            y = affine(y, f"{name}_conv2", 1, 1)
            x = np.maximum(larger_sum(y, pool(x, 2, np.mean) if down else x), 0)
    return x.mean((2, 3)) @ p["embedding.weight"].T
