"""The CIFAR networks: geometry, initialisation, timm's interfaces, and loading through timm and transformers."""

import json
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForImageClassification

import hf_icckd.models  # noqa: F401  (registers the networks)
from hf_icckd import create_classifier
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.models.classifier import build_net

NARROW, WIDE, WRN_2 = (16, 16, 32, 64), (32, 64, 128, 256), (16, 32, 64, 128)

# name: (depth, widths of stem and stages, parameters with 100 classes as the literature counts them)
RESNETS = {
    "cifar_resnet8": (8, NARROW, 83_892),
    "cifar_resnet20": (20, NARROW, 278_324),
    "cifar_resnet56": (56, NARROW, 861_620),
    "cifar_resnet8x4": (8, WIDE, 1_233_540),
    "cifar_resnet32x4": (32, WIDE, 7_433_860),
}
WRNS = {"cifar_wrn_16_2": (16, WRN_2, 703_284), "cifar_wrn_40_2": (40, WRN_2, 2_255_156)}
NETS = RESNETS | WRNS
SMALL = ["cifar_resnet8", "cifar_resnet8x4", "cifar_wrn_16_2"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count_by_formula(name: str, classes: int = 100) -> int:
    """Parameters from the geometry alone: 3x3 and 1x1 kernels, two numbers a batch norm channel, a linear head."""
    depth, (stem, *stages), _ = NETS[name]
    wrn = name in WRNS
    blocks = (depth - (4 if wrn else 2)) // 6
    total = 9 * 3 * stem + (0 if wrn else 2 * stem)
    chs = stem
    for out in stages:
        first_in, chs = chs, out
        total += 9 * first_in * out + 9 * out * out * (2 * blocks - 1)
        norms = first_in + out * (2 * blocks - 1) if wrn else out * 2 * blocks  # before or after each convolution
        if first_in != out:
            total += first_in * out
            norms += 0 if wrn else out
        total += 2 * norms
    return total + (2 * chs if wrn else 0) + chs * classes + classes


def randomize(model: nn.Module) -> nn.Module:
    """Gives batch norms statistics and weights of their own, so that no mistake hides behind ones and zeros."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


def test_list_models() -> None:
    assert set(timm.list_models("cifar_*")) == set(NETS)


@pytest.mark.parametrize("name", NETS)
def test_parameter_count(name: str) -> None:
    model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == NETS[name][-1] == count_by_formula(name)


@pytest.mark.parametrize("name", NETS)
def test_default_cfg(name: str) -> None:
    model = timm.create_model(name)
    cfg = model.default_cfg
    assert cfg["input_size"] == (3, 32, 32) and cfg["pool_size"] == (8, 8) and cfg["num_classes"] == 100
    assert cfg["crop_pct"] == 1.0 and cfg["interpolation"] == "bilinear" and not cfg["fixed_input_size"]
    assert cfg["mean"] == (0.5071, 0.4867, 0.4408) and cfg["std"] == (0.2675, 0.2565, 0.2761)
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert not timm.models.is_model_pretrained(name)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 32)


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (16, 16), (33, 29)])
@pytest.mark.parametrize("name", SMALL)
def test_shapes(name: str, size: tuple[int, int]) -> None:
    model = timm.create_model(name, num_classes=10).eval()
    widths = NETS[name][1]
    x = torch.randn(2, 3, *size)
    features = model.forward_features(x)
    assert features.shape == (2, widths[-1], *(math.ceil(s / 4) for s in size))
    assert model.forward_head(features, pre_logits=True).shape == (2, widths[-1]) == (2, model.num_features)
    assert model(x).shape == (2, 10)
    torch.testing.assert_close(model(x), model.forward_head(features))


@pytest.mark.parametrize("output_stride", [4, 2])
@pytest.mark.parametrize("name", SMALL)
def test_feature_maps(name: str, output_stride: int) -> None:
    model = randomize(timm.create_model(name, output_stride=output_stride))
    extractor = timm.create_model(name, features_only=True, output_stride=output_stride).eval()
    extractor.load_state_dict({k.replace("stem.", "stem_").replace("stages.", "stages_"): v
                               for k, v in model.state_dict().items()}, strict=False)  # fmt: skip
    x = torch.randn(2, 3, 32, 32)
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    reductions = [1, 1, 2, output_stride]
    assert extractor.feature_info.channels() == list(NETS[name][1])
    assert extractor.feature_info.reduction() == reductions
    for chs, reduction, tap, other in zip(NETS[name][1], reductions, maps, extractor(x), strict=True):
        assert tap.shape == (2, chs, 32 // reduction, 32 // reduction)
        torch.testing.assert_close(tap, other)
    for info, chs in zip(model.feature_info, NETS[name][1], strict=True):
        model.get_submodule(info["module"])
        assert info["num_chs"] == chs


@pytest.mark.parametrize("name", SMALL)
def test_feature_indices(name: str) -> None:
    model = randomize(timm.create_model(name))
    x = torch.randn(1, 3, 32, 32)
    maps = model.forward_intermediates(x, intermediates_only=True)
    for indices, expected in [(2, [2, 3]), ([-1], [3]), ([0, 2], [0, 2]), (4, [0, 1, 2, 3])]:
        for stop_early in (False, True):
            taken = model.forward_intermediates(x, indices, stop_early=stop_early, intermediates_only=True)
            torch.testing.assert_close(taken, [maps[i] for i in expected])
    for indices in (5, [4], [-5]):
        with pytest.raises(IndexError):
            model.forward_intermediates(x, indices)
    normed = model.forward_intermediates(x, 1, norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(normed, model.forward_features(x))  # a wide ResNet's stages end before the batch norm
    assert model.prune_intermediate_layers([-1], prune_head=False) == [3]
    assert model(x).shape == (1, 100)
    assert model.prune_intermediate_layers([-2]) == [2]
    torch.testing.assert_close(model.forward_intermediates(x, [2], intermediates_only=True), [maps[2]])
    assert isinstance(model.get_classifier(), nn.Identity)
    getter = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=(-3, -1))
    assert [f.shape[1] for f in getter(x)] == getter.feature_info.channels() == list(NETS[name][1][1::2])


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_resnet32x4", "cifar_wrn_16_2"])
def test_init(name: str) -> None:
    model = timm.create_model(name)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert (m.weight == 1).all() and (m.bias == 0).all()
        elif isinstance(m, nn.Conv2d):
            std = math.sqrt(2 / (m.kernel_size[0] ** 2 * m.out_channels))
            tolerance = 5 * std / math.sqrt(2 * m.weight.numel())  # five standard errors
            assert abs(m.weight.std().item() - std) < tolerance
            assert abs(m.weight.mean().item()) < 5 * std / math.sqrt(m.weight.numel())
    fc = model.get_classifier()
    bound = 1 / math.sqrt(fc.in_features)  # PyTorch's uniform default
    assert 0.95 * bound < fc.weight.abs().max() <= bound
    assert (fc.bias == 0).all() == (name in WRNS)


def plain_bn(x: Tensor, w: dict[str, Tensor], key: str) -> Tensor:
    mean, var, gain, bias = (w[f"{key}.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias


def plain_resnet(x: Tensor, w: dict[str, Tensor], blocks: int) -> Tensor:
    """He et al., section 4.2, on a timm state dict."""
    x = plain_bn(F.conv2d(x, w["conv1.weight"], padding=1), w, "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = plain_bn(F.conv2d(x, w[f"{key}.conv1.weight"], stride=stride, padding=1), w, f"{key}.bn1").relu()
            y = plain_bn(F.conv2d(y, w[f"{key}.conv2.weight"], padding=1), w, f"{key}.bn2")
            if y.shape != x.shape:
                x = plain_bn(F.conv2d(x, w[f"{key}.downsample.0.weight"], stride=stride), w, f"{key}.downsample.1")
            x = (x + y).relu()
    return x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


def plain_wrn(x: Tensor, w: dict[str, Tensor], blocks: int) -> Tensor:
    """Zagoruyko & Komodakis on a timm state dict: where channels change, both branches start from BN-ReLU."""
    x = F.conv2d(x, w["stem.conv.weight"], padding=1)
    for stage in range(3):
        for block in range(blocks):
            key = f"stages.{stage}.blocks.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            pre = plain_bn(x, w, f"{key}.norm1").relu()
            y = F.conv2d(pre, w[f"{key}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(plain_bn(y, w, f"{key}.norm2").relu(), w[f"{key}.conv2.weight"], padding=1)
            x = y + (F.conv2d(pre, w[f"{key}.downsample.conv.weight"], stride=stride) if block == 0 else x)
    return plain_bn(x, w, "norm").relu().mean((2, 3)) @ w["head.fc.weight"].T + w["head.fc.bias"]


@pytest.mark.parametrize(
    ("name", "plain", "blocks"),
    [("cifar_resnet20", plain_resnet, 3), ("cifar_resnet8x4", plain_resnet, 1), ("cifar_wrn_16_2", plain_wrn, 2)],
)
def test_equals_plain_torch(name: str, plain, blocks: int) -> None:
    model = randomize(timm.create_model(name)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    weights = model.state_dict()
    used = {k for k in weights if not k.endswith("num_batches_tracked")}

    class Recorder(dict):
        def __getitem__(self, key: str) -> Tensor:
            used.discard(key)
            return super().__getitem__(key)

    torch.testing.assert_close(plain(x, Recorder(weights), blocks), model(x), rtol=1e-5, atol=1e-5)
    assert not used  # every weight took part


@pytest.mark.parametrize("name", SMALL)
def test_timm_options(name: str) -> None:
    model = timm.create_model(name, in_chans=1, global_pool="max", drop_rate=0.5, drop_path_rate=0.1).train()
    x = torch.randn(2, 1, 32, 32)
    assert not torch.equal(model(x), model(x))  # dropout
    model.reset_classifier(7)
    assert model.eval()(x).shape == (2, 7) and model.get_classifier().out_features == model.num_classes == 7
    model.reset_classifier(0, "")
    assert model(x).shape == (2, NETS[name][1][-1], 8, 8)


@pytest.mark.parametrize("name", SMALL)
def test_grad_checkpointing(name: str) -> None:
    model = timm.create_model(name).train()
    x = torch.randn(2, 3, 32, 32)
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().mean().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", SMALL)
def test_group_matcher(name: str) -> None:
    model = timm.create_model(name)
    for coarse in (False, True):
        groups = timm.models.group_parameters(model, model.group_matcher(coarse=coarse))
        members = [m for group in groups.values() for m in group]
        assert sorted(members) == sorted(n for n, _ in model.named_parameters()) and len(groups) > 3


@pytest.mark.parametrize("name", SMALL)
def test_compiles_in_one_graph(name: str) -> None:
    model = timm.create_model(name).eval()
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_loads_in_timm_and_transformers(name: str, tmp_path) -> None:
    model = randomize(timm.create_model(name, num_classes=12))
    cfg = {k: v for k, v in model.pretrained_cfg.items() if k in ("input_size", "mean", "std", "first_conv")}
    cfg |= {"num_classes": 12, "classifier": model.pretrained_cfg["classifier"]}
    config = {"architecture": name, "num_classes": 12, "num_features": model.num_features, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})

    x = torch.randn(2, 3, 32, 32)
    in_timm = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(in_timm(x), model(x))
    in_transformers = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(in_transformers(pixel_values=x).logits, model(x))
    assert in_transformers.config.num_labels == 12
    retargeted = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5, in_chans=1).eval()
    assert retargeted(x[:, :1]).shape == (2, 5)


def test_attention_counts_as_matrix_products():
    """Twice the multiply-adds of patches, blocks and head, by hand; on a CPU attention is one fused call."""
    model = create_classifier("test_vit", ["a", "b"], image_size=160)
    net, tokens = model.net, 101
    width, blocks = net.embed_dim, len(net.blocks)
    block = tokens * (3 + 1 + 2 * 3) * width**2 + 2 * tokens**2 * width
    patches = (tokens - 1) * 3 * 16**2 * width
    assert cost_metrics(model, repeats=4)["flops"] == 2 * (patches + blocks * block + 2 * width)


def test_weights_that_cannot_be_fetched_are_explained_in_any_command(monkeypatch):
    def offline(*args, **options):
        raise OSError("We couldn't connect to the Hub. Check your proxy")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        ValueError,
        match=r"can't be fetched: We couldn't connect to the Hub; check the .* \(to train from scratch, --pret",
    ):
        build_net("test_vit", 2, pretrained=True)
