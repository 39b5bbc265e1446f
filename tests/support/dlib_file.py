"""dlib's form of a network, written from its description without the package."""

import math
import struct

import numpy as np

STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))


def integer(value):
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def integers(*values):
    return b"".join(map(integer, values))


def real(value):
    mantissa, exponent = math.frexp(struct.unpack("<f", struct.pack("<f", value))[0])
    return integers(int(mantissa * 2**24), exponent - 24)


def text(value):
    return integer(len(value)) + value.encode()


def tensor(array, samples, channels=1):
    return integers(2, samples, channels, 1, 1) + np.asarray(array, "<f4").tobytes()


EMPTY = integers(2, 0, 0, 0, 0)
STATE = b"110" + 3 * EMPTY
RATES = real(1.0) + real(1.0) + real(1.0) + real(0.0)


def convolution(rng, inputs, outputs, size, stride):
    kernel, bias = rng.normal(size=(outputs, inputs, size, size)), rng.normal(size=outputs)
    pad = 0 if stride > 1 else size // 2
    body = text("con_4") + tensor(np.append(kernel, bias), kernel.size + outputs)
    body += integers(outputs, size, size, stride, stride, pad, pad)
    body += integers(1, outputs, inputs, size, size, 1, 1, outputs, 1, 1) + RATES
    gamma, beta = rng.normal(size=(2, outputs))
    affine = text("affine_") + tensor(np.append(gamma, beta), 2 * outputs) + integers(*2 * (1, 1, outputs, 1, 1), 0)
    return [(2, body), (2, affine)], {"kernel": kernel, "bias": bias, "gamma": gamma, "beta": beta}


def pool(name, size, stride):
    return 2, text(name) + integers(size, size, stride, stride, 0, 0)


def network(stem=32, stages=STAGES, embedding=128, seed=0):
    """Bytes of a network with random weights, and its convolutions and dense layer in order."""
    rng, relu, tag = np.random.default_rng(seed), (2, text("relu_")), (1, b"")
    layers, weights = convolution(rng, 3, stem, 7, 2)
    weights, channels = [weights], stem
    layers += [relu, pool("max_pool_2", 3, 2)]
    for stage, (filters, units) in enumerate(stages):
        for unit in range(units):
            down = stage > 0 and unit == 0
            first, of_first = convolution(rng, channels, filters, 3, 2 if down else 1)
            second, of_second = convolution(rng, filters, filters, 3, 1)
            layers += [tag, *first, relu, *second]
            layers += [tag, tag, pool("avg_pool_2", 2, 2)] if down else []
            layers += [(2, text("add_prev_")), relu]
            weights += [of_first, of_second]
            channels = max(channels, filters)
    dense = rng.normal(size=(channels, embedding))
    fc = text("fc_2") + integers(embedding, channels) + tensor(dense, channels, embedding)
    layers += [pool("avg_pool_2", 0, 1), (2, fc + integers(1, channels, embedding, 1, 1, 1, 0, 0, 0, 0, 1) + RATES)]
    written = integer(1) + text("loss_metric_2") + real(0.04) + real(0.6)
    written += integers(*(version for version, _ in reversed(layers[1:])), 3)
    written += text("input_rgb_image_sized") + real(122.782) + real(117.001) + real(104.298) + integers(150, 150)
    for number, (_, body) in enumerate(layers):
        written += body + STATE if body else b""
        written += integer(1) if number == 0 else b""
    return written, [*weights, {"kernel": dense}]
