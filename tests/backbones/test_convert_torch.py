"""Weights saved by PyTorch: same embeddings as PyTorch's own, from both kinds of file, and nothing of them run."""

import resource
import zipfile

import numpy as np
import pytest

from keras_normface.backbones import ConversionError, load_torch
from tests.support import backbone_oracle as published
from tests.support import conversion_cases as cases

pytestmark = pytest.mark.torch


def network_of(kind):
    from tests.support import torch_networks

    if kind in ("iresnet", "magface"):
        options = torch_networks.MAGFACE if kind == "magface" else {}
        network = torch_networks.IResNet(cases.UNITS, cases.AREA, cases.DIM, **options)
    elif kind == "adaface":
        network = torch_networks.AdaFace(cases.UNITS, cases.AREA, cases.DIM)
    else:
        network = torch_networks.SFNet(published.SPHEREFACE_UNITS[20], kind == "sfnet_bn", cases.AREA, cases.DIM)
    network = torch_networks.randomise(network)
    if kind == "magface":
        network.load_state_dict(cases.with_small_variances(network.state_dict()))
    return network


def embeddings(network):
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(cases.images().transpose(0, 3, 1, 2))).double().numpy()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("iresnet", "pth"),
        ("iresnet", "safetensors"),
        ("magface", "safetensors"),
        ("adaface", "safetensors"),
        ("sfnet", "pth"),
        ("sfnet", "safetensors"),
        ("sfnet_bn", "pth"),
    ],
)
def test_a_saved_network_gives_the_same_embeddings(kind, ending, tmp_path):
    import safetensors.torch
    import torch

    network, path = network_of(kind), tmp_path / f"weights.{ending}"
    save = torch.save if ending == "pth" else safetensors.torch.save_file
    save(network.state_dict(), path)
    cases.check(kind, path, embeddings(network))


def test_parameters_in_half_precision_of_a_data_parallel_checkpoint(tmp_path):
    import torch

    network = network_of("sfnet").to(torch.bfloat16)
    parameters = {f"module.{name}": value for name, value in network.named_parameters()}
    torch.save({"state_dict": parameters, "epoch": 2}, tmp_path / "weights.pt")
    cases.check("sfnet", tmp_path / "weights.pt", embeddings(network.float()))


def training_checkpoint(kind, network):
    """What the project's training script saves: the network in a module with its head, and what is beside them."""
    import torch

    state, centres = network.state_dict(), torch.randn(cases.DIM, 40)
    if kind == "adaface":  # Lightning's
        head = {"head.kernel": centres, "head.t": torch.zeros(1)}
        head |= {"head.batch_mean": torch.ones(1) * 20, "head.batch_std": torch.ones(1) * 100}
        state = {f"model.{name}": value for name, value in state.items()} | head
        rest = {"callbacks": {"ModelCheckpoint": {"best_model_score": torch.ones(())}}, "optimizer_states": [{}]}
        return {"epoch": 25, "state_dict": state, "hyper_parameters": {"arch": "ir_18", "m": 0.4}, **rest}
    if kind == "magface":
        state = {f"features.module.{name}": value for name, value in state.items()} | {"parallel_fc.weight": centres.T}
        optimizer = {"state": {0: {"momentum_buffer": centres}}, "param_groups": [{"lr": 0.1}]}
        return {"epoch": 25, "arch": "iresnet18", "state_dict": state, "optimizer": optimizer}
    return {f"net.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("kind", "file"), [("adaface", "last.ckpt"), ("magface", "00025.pth"), ("cvlface", "model.pt")]
)
def test_a_checkpoint_of_the_projects_training(kind, file, tmp_path):
    import torch

    family = "adaface" if kind == "cvlface" else kind
    network = network_of(family)
    torch.save(training_checkpoint(kind, network), tmp_path / file)
    cases.check(family, tmp_path / file, embeddings(network))


@pytest.mark.parametrize("depth", [18, 50, 100])
@pytest.mark.parametrize("kind", ["IResNet", "AdaFace"])
def test_names_and_shapes_are_those_of_pytorch(kind, depth):
    import torch

    from tests.support import torch_networks

    units = published.IRESNET_UNITS[depth]
    with torch.device("meta"):
        with_counters = getattr(torch_networks, kind)(units).state_dict()
    state = {name: tuple(value.shape) for name, value in with_counters.items() if "num_batches" not in name}
    assert state == (published.iresnet_shapes if kind == "IResNet" else published.adaface_shapes)(units, 49)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("ending", [".pth", ".pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_and_not_run(tmp_path, ending, zipped):
    import torch

    path = tmp_path / f"weights{ending}"
    torch.save({"fc.weight": Bomb(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConversionError, match=r"`source` cannot be read as tensors alone(.|\n)*[Ww]eights.only"):
        load_torch(cases.model_of("sfnet"), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_damaged_and_missing_files(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(b"no such file format")
    with pytest.raises(ConversionError, match=r"`source` cannot be read as tensors alone. Received: source='.*weights"):
        load_torch(cases.model_of("sfnet"), path)
    with pytest.raises(FileNotFoundError):
        load_torch(cases.model_of("sfnet"), tmp_path / f"none.{ending}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: [torch.zeros(2)], "`source` must hold a state dict. Received: .* with a list"),
        (lambda torch: {"fc.bias": torch.zeros(2, dtype=torch.long)}, r"\nfc.bias: numbers of type torch.int64"),
        (lambda torch: {"fc.bias": torch.zeros(2, dtype=torch.cfloat)}, r"\nfc.bias: numbers of type torch.complex64"),
        (lambda torch: {"fc.bias": torch.zeros(2, device="meta")}, r"\nfc.bias: no plain tensor"),
        (lambda torch: {"fc.bias": torch.zeros(2).to_sparse()}, r"\nfc.bias: no plain tensor"),
    ],
)
def test_other_contents_are_refused(tmp_path, make, message):
    import torch

    torch.save(make(torch), tmp_path / "weights.pth")
    with pytest.raises(ConversionError, match=message):
        load_torch(cases.model_of("sfnet"), tmp_path / "weights.pth")


@pytest.mark.parametrize("bomb", ["expanded", "shared", "deflated"])
def test_a_small_file_with_large_tensors_takes_little_memory(tmp_path, bomb):
    import torch

    path = tmp_path / "weights.pth"
    if bomb == "expanded":
        torch.save({"fc.weight": torch.zeros(1).expand(2**14, 2**13)}, path)
    elif bomb == "shared":
        shared = torch.zeros(2**16)
        torch.save({f"{k}.weight": shared for k in range(2**11)}, path)
    else:
        torch.save({"fc.weight": torch.zeros(2**24)}, tmp_path / "stored.pth")
        with (
            zipfile.ZipFile(tmp_path / "stored.pth") as stored,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        ):
            for member in stored.namelist():
                file.writestr(member, stored.read(member))
    assert path.stat().st_size < 2**19
    model = cases.model_of("sfnet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConversionError, match=r"`source` (must hold the numbers|cannot be read).*weights.pth"):
        load_torch(model, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # kB: a quarter of the tensors


def test_an_old_torch_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ImportError, match=r"torch must be at least 2.6.*Received: 2.5.1"):
        load_torch(cases.model_of("sfnet"), "weights.pth")


def test_the_oracle_against_torch_itself():
    import torch

    functional, rng = torch.nn.functional, np.random.default_rng(5)
    x, w, b = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(5, 4, 3, 3)), rng.normal(size=5)
    tx, tw, tb = map(torch.tensor, (x, w, b))
    for stride in (1, 2):
        wanted = functional.conv2d(tx, tw, tb, stride, 1).numpy()
        np.testing.assert_allclose(published.conv(x, w, b, stride, 1), wanted, atol=1e-12)
    p = {f"n.{key}": rng.uniform(0.5, 2, 4) for key in ("weight", "bias", "running_mean", "running_var")}
    t = {key.removeprefix("n."): torch.tensor(value) for key, value in p.items()}
    wanted = functional.batch_norm(tx, t["running_mean"], t["running_var"], t["weight"], t["bias"]).numpy()
    np.testing.assert_allclose(published.batch_norm(x, p, "n"), wanted, atol=1e-12)
    np.testing.assert_allclose(published.prelu(x, b[:4]), functional.prelu(tx, tb[:4]).numpy(), atol=1e-12)
    np.testing.assert_array_equal(published.max_pool(x), functional.max_pool2d(tx, 2, 2, ceil_mode=True).numpy())


@pytest.mark.parametrize("kind", cases.KINDS)
def test_the_networks_of_the_tests_are_those_of_the_oracle(kind):
    network = network_of(kind).double()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    import torch

    with torch.no_grad():
        ours = network(torch.from_numpy(cases.images().transpose(0, 3, 1, 2)).double()).numpy()
    wanted = cases.by_oracle(kind, state, cases.images())
    np.testing.assert_allclose(ours, wanted, atol=1e-10 * np.abs(wanted).max())
