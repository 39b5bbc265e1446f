"""The estimate of a head's memory and operations: worked numbers, and what is refused."""

import pytest

from keras_normface import AgentContrastiveHead, MarginSoftmaxHead, SampledMarginSoftmaxHead
from keras_normface.heads._cost import head_cost, readable
from keras_normface.margins import AdditiveCosine

MIB = 2**20


def test_a_worked_example():
    # 98 304 agents of 512 float32 are 192 MiB, 256 samples × 98 304 classes 96 MiB, the embeddings 0.5 MiB
    cost = head_cost(98_304, 512, 256, False, jit_compile=True)
    assert (cost.kernel, cost.gradients, cost.optimizer) == (192 * MIB, 192 * MIB, 192 * MIB)
    assert cost.update == 0
    assert cost.activations == (192 + 3.0 * 96 + 1.5) * MIB
    assert cost.total == sum(cost[1:7])
    assert cost.flops == 6 * 256 * 98_304 * 512
    assert head_cost(98_304, 512, 256, "stream").flops == 8 * 256 * 98_304 * 512
    assert head_cost(98_304, 512, 256, "stream", optimizer_slots=2).optimizer == 384 * MIB
    assert head_cost(98_304, 512, 256, "buffer", itemsize=8).kernel == 384 * MIB
    outside = head_cost(98_304, 512, 256, "buffer", jit_compile=False)
    assert outside.total == sum(outside[1:7])
    assert outside.update > 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_streaming_needs_least_and_grows_with_the_batch_least(jit_compile):
    def activations(mode, batch):
        return head_cost(1_048_576, 512, batch, mode, jit_compile=jit_compile).activations

    for batch in (256, 512):
        plain, buffer, stream = (activations(mode, batch) for mode in (False, "buffer", "stream"))
        assert plain > buffer > stream
    growth = [activations(mode, 512) - activations(mode, 256) for mode in (False, "buffer", "stream")]
    assert growth[0] > growth[1] > 20 * growth[2] > 0


def test_a_head_takes_dim_and_mode_from_itself():
    head = MarginSoftmaxHead(98_304, AdditiveCosine(0.35))
    with pytest.raises(ValueError, match="`dim` must be given"):
        head.cost(256)
    assert head.cost(256, 512).mode == "buffer"
    assert head.cost(4096, 512).mode == "stream"
    assert head.cost(256, 512, mode=False).mode is False
    small = AgentContrastiveHead(10)
    small.build((None, 8))
    assert small.cost(4) == head_cost(10, 8, 4, False)
    assert MarginSoftmaxHead(10, dtype="float64").cost(4, 8).kernel == 640


def test_a_sample_costs_as_its_agents_do_and_all_agents_and_velocities_are_kept():
    head = SampledMarginSoftmaxHead(1_048_576, sample_rate=0.125)
    cost, sampled = head.cost(256, 512), head_cost(131_072, 512, 256, "buffer")  # 131 072 agents are 256 MiB
    assert cost.mode == "buffer"  # of the sample; all classes would be streamed
    assert (cost.kernel, cost.optimizer) == (2048 * MIB, 2048 * MIB)
    assert cost.gradients == 256 * MIB
    assert cost.activations == sampled.activations + 256 * MIB
    assert cost.update == 3 * 256 * MIB
    assert cost.total == sum(cost[1:7])
    assert cost.flops == 6 * 256 * 131_072 * 512
    assert head.cost(256, 512, mode="stream").flops == 8 * 256 * 131_072 * 512
    assert SampledMarginSoftmaxHead(5000, dtype="float64").cost(4, 8).gradients == 1024 * 8 * 8
    with pytest.raises(ValueError, match="`dim` must be given"):
        head.cost(256)


def test_the_table_is_readable():
    shown = str(head_cost(1_048_576, 512, 256, "buffer", jit_compile=False))
    assert "mode              buffer\n" in shown
    assert "kernel          2.00 GiB\n" in shown
    assert shown.endswith("GFLOP a step")
    assert str(head_cost(10, 8, 4, False)).startswith("mode               plain\n")
    assert readable(2**30 - 1) == "1024.0 MiB"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": 0}, "classes=0"),
        ({"dim": 2.5}, "dim=2.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"optimizer_slots": -1}, "optimizer_slots=-1"),
        ({"mode": "fast"}, "mode='fast'"),
    ],
)
def test_what_is_refused(changes, said):
    arguments = {"classes": 10, "dim": 8, "batch_size": 4, "mode": False, **changes}
    with pytest.raises(ValueError, match=said):
        head_cost(**arguments)
