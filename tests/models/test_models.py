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
from tests.models import literature

NARROW, WIDE, WRN_1, WRN_2 = (16, 16, 32, 64), (32, 64, 128, 256), (16, 16, 32, 64), (16, 32, 64, 128)
SHUFFLE_1, SHUFFLE_2, VGG = (24, 240, 480, 960), (24, 116, 232, 464), (64, 128, 256, 512, 512)

# name: (depth, widths of stem and stages, parameters with 100 classes as the literature counts them)
RESNETS = {
    "cifar_resnet8": (8, NARROW, 83_892),
    "cifar_resnet14": (14, NARROW, 181_108),
    "cifar_resnet20": (20, NARROW, 278_324),
    "cifar_resnet32": (32, NARROW, 472_756),
    "cifar_resnet44": (44, NARROW, 667_188),
    "cifar_resnet56": (56, NARROW, 861_620),
    "cifar_resnet110": (110, NARROW, 1_736_564),
    "cifar_resnet8x4": (8, WIDE, 1_233_540),
    "cifar_resnet32x4": (32, WIDE, 7_433_860),
}
WRNS = {
    "cifar_wrn_16_1": (16, WRN_1, 180_916),
    "cifar_wrn_16_2": (16, WRN_2, 703_284),
    "cifar_wrn_40_1": (40, WRN_1, 569_780),
    "cifar_wrn_40_2": (40, WRN_2, 2_255_156),
}
VGGS = {
    "cifar_vgg8": (8, VGG, 3_965_028),
    "cifar_vgg11": (11, VGG, 9_277_284),
    "cifar_vgg13": (13, VGG, 9_462_180),
    "cifar_vgg16": (16, VGG, 14_774_436),
    "cifar_vgg19": (19, VGG, 20_086_692),
}
OTHERS = {
    "cifar_resnet50": (50, (64, 256, 512, 1024, 2048), 23_705_252),
    "cifar_mobilenetv2_half": (None, (8, 12, 16, 48, 160)[1:], 812_836),
    "cifar_shufflenetv1": (None, SHUFFLE_1, 949_258),
    "cifar_shufflenetv2": (None, SHUFFLE_2, 1_355_528),
}
NETS = RESNETS | WRNS | VGGS | OTHERS
SMALL = ["cifar_resnet8", "cifar_resnet8x4", "cifar_wrn_16_1", "cifar_wrn_16_2"]
# One of each kind.
KINDS = [
    *SMALL[1:3],
    "cifar_resnet50",
    "cifar_vgg8",
    "cifar_mobilenetv2_half",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
]
REDUCTIONS = {
    "cifar_resnet50": (1, 1, 2, 4, 8),
    "cifar_mobilenetv2_half": (2, 4, 8, 16),
    "cifar_shufflenetv1": (1, 2, 4, 8),
    "cifar_shufflenetv2": (1, 2, 4, 8),
    **dict.fromkeys(VGGS, (1, 2, 4, 8, 8)),
}
FEATURES = {"cifar_mobilenetv2_half": 1280, "cifar_shufflenetv2": 1024}  # after a last convolution


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count_of_basic_blocks(name: str, classes: int) -> int:
    """Parameters of a ResNet or WRN: 3x3 and 1x1 kernels, two numbers a batch norm channel, a linear head."""
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


def count_of_vgg(name: str, classes: int) -> int:
    """Parameters of a VGG: 3x3 kernels with a bias and a batch norm each, a linear head."""
    total, chs = 0, 3
    for width, depth in zip(VGG, literature.VGG_DEPTHS[NETS[name][0]], strict=True):
        for _ in range(depth):
            total += 9 * chs * width + 3 * width
            chs = width
    return total + chs * classes + classes


def count_of_bottlenecks(name: str, classes: int) -> int:
    """Parameters of ResNet-50: stem; 1x1, 3x3 and 1x1 kernels in each block; a 1x1 shortcut in each stage."""
    total, chs = 9 * 3 * 64 + 2 * 64, 64
    for width, blocks in zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True):
        total += chs * 4 * width + 2 * 4 * width
        for _ in range(blocks):
            total += chs * width + 9 * width**2 + 4 * width**2 + 2 * (width + width + 4 * width)
            chs = 4 * width
    return total + chs * classes + classes


def count_of_mobilenet(name: str, classes: int) -> int:
    """Parameters of MobileNetV2: 1x1, depthwise 3x3 and 1x1 kernels in each block, a last 1x1 kernel."""
    total, chs = 9 * 3 * 16 + 2 * 16, 16
    for expansion, width, blocks, _ in literature.MOBILE:
        for _ in range(blocks):
            inner = expansion * chs
            total += chs * inner + 9 * inner + inner * width + 2 * (2 * inner + width)
            chs = width
    return total + chs * 1280 + 2 * 1280 + 1280 * classes + classes


def count_of_shufflenetv1(name: str, classes: int) -> int:
    """Parameters of ShuffleNetV1: grouped 1x1, depthwise 3x3 and grouped 1x1 kernels in each block."""
    total, chs = 3 * 24 + 2 * 24, 24
    for width, blocks in zip(SHUFFLE_1[1:], (4, 8, 4), strict=True):
        for _ in range(blocks):
            out = width - chs if chs != width else width
            inner, groups = out // 4, 1 if chs == 24 else 3
            total += chs * inner // groups + 9 * inner + inner * out // 3 + 2 * (2 * inner + out)
            chs = width
    return total + chs * classes + classes


def count_of_shufflenetv2(name: str, classes: int) -> int:
    """Parameters of ShuffleNetV2: two branches in a stage's first block, one on half of the channels in others."""
    total, chs = 3 * 24 + 2 * 24, 24
    for width, blocks in zip(SHUFFLE_2[1:], (3, 7, 3), strict=True):
        half = width // 2
        total += 9 * chs + chs * half + 2 * (chs + half)
        total += chs * half + 9 * half + half**2 + 2 * 3 * half
        total += blocks * (2 * half**2 + 9 * half + 2 * 3 * half)
        chs = width
    return total + chs * 1024 + 2 * 1024 + 1024 * classes + classes


COUNTED = {
    **dict.fromkeys(RESNETS | WRNS, count_of_basic_blocks),
    **dict.fromkeys(VGGS, count_of_vgg),
    "cifar_resnet50": count_of_bottlenecks,
    "cifar_mobilenetv2_half": count_of_mobilenet,
    "cifar_shufflenetv1": count_of_shufflenetv1,
    "cifar_shufflenetv2": count_of_shufflenetv2,
}


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
    assert sum(p.numel() for p in model.parameters()) == NETS[name][-1] == COUNTED[name](name, 100)


@pytest.mark.parametrize("name", NETS)
def test_default_cfg(name: str) -> None:
    model = timm.create_model(name)
    cfg = model.default_cfg
    assert cfg["input_size"] == (3, 32, 32) and cfg["num_classes"] == 100
    assert model.forward_features(torch.zeros(2, 3, 32, 32)).shape[2:] == cfg["pool_size"]
    assert cfg["crop_pct"] == 1.0 and cfg["interpolation"] == "bilinear"
    assert cfg["fixed_input_size"] == (name in VGGS)  # with 64 pixels it has one more pool
    assert cfg["mean"] == (0.5071, 0.4867, 0.4408) and cfg["std"] == (0.2675, 0.2565, 0.2761)
    assert isinstance(model.get_submodule(cfg["first_conv"]), nn.Conv2d)
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert not timm.models.is_model_pretrained(name)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 32)


def reductions_of(name: str, output_stride: int = 4) -> tuple[int, ...]:
    return REDUCTIONS.get(name, (1, 1, 2, output_stride))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (16, 16), (33, 29)])
@pytest.mark.parametrize("name", KINDS)
def test_shapes(name: str, size: tuple[int, int]) -> None:
    model = timm.create_model(name, num_classes=10).eval()
    width, reduction = FEATURES.get(name, NETS[name][1][-1]), reductions_of(name)[-1]
    x = torch.randn(2, 3, *size)
    features = model.forward_features(x)
    rounded = math.floor if name in VGGS else math.ceil  # a max-pool drops the odd row, a padded convolution doesn't
    assert features.shape == (2, width, *(rounded(s / reduction) for s in size))
    assert model.forward_head(features, pre_logits=True).shape == (2, width) == (2, model.num_features)
    assert model.head_hidden_size == width
    assert model(x).shape == (2, 10)
    torch.testing.assert_close(model(x), model.forward_head(features))


def test_vgg_for_64_pixels_pools_once_more() -> None:
    """RepDistiller pools before the last stage where images have 64 pixels (Tiny ImageNet)."""
    model = create_classifier("cifar_vgg8", ["a", "b"], image_size=64)
    assert model.spec.model_args == {"img_size": 64}
    assert [info["reduction"] for info in model.net.feature_info] == [1, 2, 4, 8, 16]
    assert model.net.forward_features(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 4, 4)
    assert list(model.net.state_dict()) == list(timm.create_model("cifar_vgg8").state_dict())


@pytest.mark.parametrize("output_stride", [4, 2])
@pytest.mark.parametrize("name", SMALL)
def test_dilated_feature_maps(name: str, output_stride: int) -> None:
    check_feature_maps(name, output_stride=output_stride)


@pytest.mark.parametrize("name", KINDS)
def test_feature_maps(name: str) -> None:
    check_feature_maps(name)


def check_feature_maps(name: str, **options: int) -> None:
    model = randomize(timm.create_model(name, **options))
    extractor = timm.create_model(name, features_only=True, **options).eval()
    flat = ("stem.", "stages.", "blocks.")
    state = model.state_dict()
    for prefix in flat:
        state = {k.replace(prefix, prefix[:-1] + "_", 1) if k.startswith(prefix) else k: v for k, v in state.items()}
    missing = extractor.load_state_dict(state, strict=False).missing_keys
    assert not missing
    x = torch.randn(2, 3, 32, 32)
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    reductions = reductions_of(name, **options)
    widths = [info["num_chs"] for info in model.feature_info]
    assert extractor.feature_info.channels() == widths
    if name != "cifar_mobilenetv2_half":  # its maps end in the middle of the paper's rows
        assert widths == list(NETS[name][1])
    assert extractor.feature_info.reduction() == [info["reduction"] for info in model.feature_info] == list(reductions)
    for chs, reduction, tap, other in zip(widths, reductions, maps, extractor(x), strict=True):
        assert tap.shape == (2, chs, 32 // reduction, 32 // reduction)
        torch.testing.assert_close(tap, other)
    for info in model.feature_info:
        model.get_submodule(info["module"])


@pytest.mark.parametrize("name", [name for name in KINDS if name != "cifar_mobilenetv2_half"])
def test_feature_indices(name: str) -> None:
    model = randomize(timm.create_model(name))
    x = torch.randn(1, 3, 32, 32)
    maps = model.forward_intermediates(x, intermediates_only=True)
    n = len(maps)
    for indices, expected in [(2, [n - 2, n - 1]), ([-1], [n - 1]), ([0, 2], [0, 2]), (n, list(range(n)))]:
        for stop_early in (False, True):
            taken = model.forward_intermediates(x, indices, stop_early=stop_early, intermediates_only=True)
            torch.testing.assert_close(taken, [maps[i] for i in expected])
    for indices in (n + 1, [n], [-n - 1]):
        with pytest.raises(IndexError):
            model.forward_intermediates(x, indices)
    normed = model.forward_intermediates(x, 1, norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(normed, model.forward_features(x))  # a wide ResNet's stages end before the batch norm
    assert model.prune_intermediate_layers([-1], prune_head=False) == [n - 1]
    assert model(x).shape == (1, 100)
    assert model.prune_intermediate_layers([-2]) == [n - 2]
    torch.testing.assert_close(model.forward_intermediates(x, [n - 2], intermediates_only=True), [maps[n - 2]])
    assert isinstance(model.get_classifier(), nn.Identity)
    getter = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=(-3, -1))
    assert [f.shape[1] for f in getter(x)] == getter.feature_info.channels() == [NETS[name][1][i] for i in (-3, -1)]


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


@pytest.mark.parametrize("name", KINDS)
def test_timm_options(name: str) -> None:
    drop_path = {"drop_path_rate": 0.1} if "resnet" in name or "wrn" in name or "mobilenet" in name else {}
    model = timm.create_model(name, in_chans=1, global_pool="max", drop_rate=0.5, **drop_path).train()
    x = torch.randn(2, 1, 32, 32)
    assert not torch.equal(model(x), model(x))  # dropout
    model.reset_classifier(7)
    assert model.eval()(x).shape == (2, 7) and model.get_classifier().out_features == model.num_classes == 7
    model.reset_classifier(0, "")
    assert model(x).shape == (2, model.num_features, *model.pretrained_cfg["pool_size"])


@pytest.mark.parametrize("name", KINDS)
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


@pytest.mark.parametrize("name", KINDS)
def test_group_matcher(name: str) -> None:
    model = timm.create_model(name)
    for coarse in (False, True):
        groups = timm.models.group_parameters(model, model.group_matcher(coarse=coarse))
        members = [m for group in groups.values() for m in group]
        assert sorted(members) == sorted(n for n, _ in model.named_parameters()) and len(groups) > 3


@pytest.mark.parametrize("name", KINDS)
def test_compiles_in_one_graph(name: str) -> None:
    model = timm.create_model(name).eval()
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", KINDS)
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
    reason = "can't be fetched: We couldn't connect to the Hub; check the .* "
    with pytest.raises(ValueError, match=reason + r"\(to train from scratch, --pretrained false or a term's pret"):
        build_net("test_vit", 2, pretrained=True)
