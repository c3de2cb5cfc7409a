"""Files of weights as other programs write them, and those that are something else."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_icckd import WeightsFile, create_classifier, from_pretrained, read_state_dict, save_pretrained
from hf_icckd.models.hub_names import hub_name

WEIGHTS = {"conv.weight": torch.arange(4.0).view(1, 1, 2, 2), "fc.weight": torch.eye(2)}


def same(found, expected=WEIGHTS):
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def prefixed(prefix, weights=WEIGHTS):
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


OLD = {  # as training scripts of years ago wrote it
    "epoch": 7,
    "arch": "resnet18",
    "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), best=np.float64(0.5), seen={"a"}),
    "best_acc1": torch.tensor(71.0),
    "history": defaultdict(list, {"loss": [np.float32(1.5), np.array([1, 2])]}),
    "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9).state_dict(),
    "state_dict": prefixed("module."),
}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        prefixed("module."),
        prefixed("_orig_mod.module."),
        {"n_averaged": torch.tensor(3), **prefixed("module.")},
        {"model": WEIGHTS, "optimizer": {"state": {}, "param_groups": []}},
        {"model_state_dict": prefixed("model.")},
        {"net": WEIGHTS, "acc": 90.0, "epoch": 3},
        {"teacher_of_mine": WEIGHTS},
        OLD,
    ],
)
def test_weights_are_found(tmp_path, content):
    torch.save(content, tmp_path / "net.pth.tar")
    assert same(read_state_dict(tmp_path / "net.pth.tar"))


def test_old_formats_and_safetensors(tmp_path):
    torch.save(OLD, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(dict(prefixed("timm_model.")), tmp_path / "new.safetensors")
    assert same(read_state_dict(tmp_path / "old.pth"))
    assert same(dict(sorted(read_state_dict(tmp_path / "new.safetensors").items())))


def test_one_of_several_nets_is_named(tmp_path):
    averaged = {name: 2 * tensor for name, tensor in WEIGHTS.items()}
    torch.save({"state_dict": WEIGHTS, "state_dict_ema": averaged}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="holds the weights of 2 nets: 'state_dict', 'state_dict_ema'; name one"):
        read_state_dict(tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.pth", "state_dict_ema"), averaged)
    with pytest.raises(ValueError, match="has no entry 'ema' with weights, expected one of: 'state_dict', 'state"):
        read_state_dict(tmp_path / "net.pth", "ema")


class Code:
    """Loading one of these would make a folder."""

    def __reduce__(self):
        return (os.mkdir, ("made_by_a_pickle",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            torch.nn.Linear(2, 2),
            r"holds torch\S+Linear, whose loading would run code; .* write its weights",
        ),
        ({"state_dict": WEIGHTS, "x": Code()}, "holds (posix|nt).mkdir, whose loading would run code"),
        ({"epoch": 3, "acc": torch.tensor(1.0)}, "holds no weights of a net, only 'epoch', 'acc'"),
        ({}, "holds no weights of a net, only nothing"),
        ([1, 2], "holds a list, expected a dictionary of tensors by name"),
    ],
)
def test_files_of_something_else(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "net.pt")
    with pytest.raises(ValueError, match=message):
        read_state_dict("net.pt")
    assert not pathlib.Path("made_by_a_pickle").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_damaged_and_missing_files(tmp_path, name):
    with pytest.raises(ValueError, match="there is no file of weights"):
        read_state_dict(tmp_path / name)
    for content in (b"<html>not found</html>", b""):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"can't be read as weights of torch|is no readable safetensors file"):
            read_state_dict(tmp_path / name)


def net_file(folder, architecture="test_resnet", **options):
    torch.manual_seed(0)
    net = create_classifier(architecture, list("abc"), **options).net.eval()
    torch.save({"state_dict": prefixed("module.", net.state_dict())}, folder / "net.pth.tar")
    return net, folder / "net.pth.tar"


def test_a_teacher_from_a_file(tmp_path, caplog):
    net, file = net_file(tmp_path)
    classifier = from_pretrained(file, WeightsFile("test_resnet", image_size=40))
    assert "does not say how images were normalised: timm's values for test_resnet are taken" in caplog.text
    images = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images).logits, net(classifier.preprocess(images)))
    assert (classifier.spec.label_names, classifier.training) == (("LABEL_0", "LABEL_1", "LABEL_2"), False)
    save_pretrained(tmp_path / "folder", classifier)
    assert from_pretrained(tmp_path / "folder").spec == classifier.spec


def test_normalisation_is_not_guessed(tmp_path, caplog):
    _, file = net_file(tmp_path, "cifar_resnet8", image_size=16)
    with pytest.raises(ValueError, match=r"give what it was trained with, for CIFAR-100 mostly --teacher_mean 0.5071"):
        from_pretrained(file, WeightsFile("cifar_resnet8"))
    with pytest.raises(ValueError, match="expected both or neither"):
        from_pretrained(file, WeightsFile("cifar_resnet8", std=(0.2, 0.2, 0.2)))
    found = from_pretrained(file, WeightsFile("cifar_resnet8", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert (found.spec.mean, found.spec.std, found.spec.image_size) == ((0.5,) * 3, (0.2,) * 3, 32)
    assert not caplog.text


def test_weights_of_another_net(tmp_path):
    _, file = net_file(tmp_path)
    for name, message in {
        "resnet18": r"are not those of resnet18: \d+ tensors missing \(.*; \.\.\.\)",
        "test_vit": "have no classification layer 'head', expected those of test_vit",
        "resnet17": "unknown model 'resnet17'",
    }.items():
        with pytest.raises(ValueError, match=message):
            from_pretrained(file, WeightsFile(name))


def test_what_a_file_needs_and_a_folder_does_not(tmp_path):
    _, file = net_file(tmp_path)
    with pytest.raises(
        ValueError, match=r"is a file, .* hf-icckd import \S+/net.pth.tar --model ARCHITECTURE --output"
    ):
        from_pretrained(file)
    for exported in (tmp_path / "model.xml", tmp_path / "model.onnx"):
        exported.write_bytes(b"")
        with pytest.raises(
            ValueError, match="is a file that a model was exported to, expected the model itself: give"
        ):
            from_pretrained(exported)
    with pytest.raises(ValueError, match=r"an architecture \(test_vit\) was given for 'me/net', which is no file"):
        from_pretrained("me/net", WeightsFile("test_vit"))
    with pytest.raises(ValueError, match="there is no file of weights"):
        from_pretrained(tmp_path / "resnet18.pth")


@pytest.mark.parametrize("name", ["runs/teacher/last", "resnet18", "./me/net", "~/net", "me/net@", "hf-hub:resnet18"])
def test_what_is_no_name_of_the_hub(name):
    assert hub_name(name) is None
