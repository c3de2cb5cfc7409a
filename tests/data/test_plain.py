"""Ordinary data sets as batches: what is read, what is refused, and which changes follow the seed."""

from __future__ import annotations

import random

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision import transforms

from hf_icckd import create_classifier, predict_split
from hf_icckd.data.plain import PlainImages, as_batches, as_training_batches
from hf_icckd.data.sampling import BatchKey

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 5, 7, 3), dtype=np.uint8)
PLANES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
LABELS = [0, 1, 2, 0, 1, 2]
NAMES = ("cat", "dog", "fish")


class Rows(torch.utils.data.Dataset):
    """Whatever a function makes of a row number."""

    def __init__(self, make, size=6):
        self.make, self.size = make, size

    def __len__(self):
        return self.size

    def __getitem__(self, row):
        return self.make(row)


def batch(dataset, rows=(4, 1), epoch=0):
    return dataset.__getitems__(BatchKey(epoch, torch.tensor(rows), len(rows)))


def picture(row):
    return PIL.Image.fromarray(PIXELS[row])


HF = datasets.Dataset.from_dict(
    {"img": [picture(row) for row in range(6)], "label": LABELS},
    features=datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}),
)


@pytest.mark.parametrize(
    "dataset",
    [
        Rows(lambda row: {"pixel_values": PLANES[row], "labels": LABELS[row]}),
        Rows(lambda row: {"image": picture(row), "label": np.int64(LABELS[row])}),
        Rows(lambda row: (picture(row), LABELS[row])),
        Rows(lambda row: [PIXELS[row], torch.tensor(LABELS[row])]),
        Rows(lambda row: (transforms.ToTensor()(picture(row)), LABELS[row])),
        TensorDataset(PLANES, torch.tensor(LABELS)),
        HF,
        HF.with_transform(lambda rows: {"pixel_values": [transforms.ToTensor()(x) for x in rows["img"]], **rows}),
        HF.with_format("torch"),
    ],
)
def test_common_forms_of_images_and_labels_are_read_without_loss(dataset):
    read = batch(as_batches(dataset, NAMES))
    assert torch.equal(read["pixel_values"][:, 0], PLANES[[4, 1]])
    assert read["labels"].tolist() == [1, 1] and read["sample_ids"].tolist() == [4, 1] and read["global_rows"] == 2


def test_grey_images_get_three_channels_and_empty_shares_keep_their_shape():
    for image in (PLANES[0][:1], PIXELS[0][:, :, 0], PIL.Image.fromarray(PIXELS[0][:, :, 0])):
        read = batch(as_batches(Rows(lambda row, image=image: (image, 0)), NAMES))
        assert torch.equal(read["pixel_values"][0, 0], PLANES[0][:1].expand(3, -1, -1))
    assert batch(as_batches(HF, NAMES), rows=())["pixel_values"].shape == (0, 1, 3, 5, 7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda row: (PLANES[row], row), r"row 3 of the train data set: its label is 3, expected 0 to 2: the classif"),
        (lambda row: (PLANES[row], -1), r"its label is -1, expected 0 to 2"),
        (lambda row: (PLANES[row], "cat"), r"its label is 'cat', expected the number of a class, 0 to 2"),
        (lambda row: (PLANES[row], 1.0), r"its label is 1\.0, expected the number of a class"),
        (lambda row: (PLANES[row], torch.eye(3)[0]), r"its label is tensor.* expected the number of a class"),
        (
            lambda row: (PLANES[row] / 127.5 - 1, 0),
            r"float32 with values from -\d.* to .*, expected 0 to 1.* Normalize",
        ),
        (lambda row: (PLANES[row].float(), 0), r"float32 with values from 4 to 254, expected 0 to 1"),
        (lambda row: (PLANES[row] * torch.nan, 0), r"values from nan to nan, expected 0 to 1"),
        (lambda row: (PLANES[row].int(), 0), r"its image is torch.int32, expected uint8"),
        (lambda row: (torch.zeros(4, 5, 7), 0), r"its image is a Tensor of shape \(4, 5, 7\), expected a PIL image"),
        (lambda row: ("cat.png", 0), r"its image is a <class 'str'>, expected a PIL image"),
        (lambda row: PLANES[row], r"it is a Tensor, expected \(image, label\) or a dictionary"),
        (lambda row: {"x": 1, "label": 0}, r"it has x, label, expected an image as pixel_values, image, img and a cl"),
        (
            lambda row: (PLANES[row][:, :, row:], 0),
            r"rows 2 and 3 of the train data set have images of 5 x 5 and 5 x 4 pixels.* resize them in the data set",
        ),
    ],
)
def test_what_cannot_be_read_is_one_error_that_names_the_row(make, message):
    with pytest.raises(ValueError, match=message):
        batch(PlainImages(Rows(make), 3, "train"), rows=(2, 3))


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield PLANES[0], 0


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), r"the evaluation data set is a Stream, which can't be read by row number"),
        (HF.to_iterable_dataset(), r"is a IterableDataset, which can't be read by row number"),
        (iter([1]), r"can't be read by row number"),
        (torch.utils.data.DataLoader(HF), r"is a DataLoader, expected what it loads from; give its \.dataset"),
        (datasets.DatasetDict(train=HF, test=HF), r"is a DatasetDict of train, test, expected one data set"),
        (Rows(None, 0), r"the evaluation data set is empty"),
    ],
)
def test_what_is_no_map_style_data_set_is_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        as_batches(dataset, NAMES)


def noisy(row):
    noise = torch.rand(1), np.random.rand(), random.random()
    return (PLANES[row] * (sum(noise) / 3)).byte(), LABELS[row]


def test_random_changes_follow_the_seed_and_leave_the_generators_alone(caplog):
    states = torch.get_rng_state(), np.random.get_state()[2], random.getstate()
    dataset = as_training_batches(Rows(noisy), NAMES, seed=1, num_views=2)
    first = batch(dataset)["pixel_values"]
    assert torch.equal(batch(dataset, (1, 4))["pixel_values"].flip(0), first)  # whatever was read before
    assert not torch.equal(first[:, 0], first[:, 1]) and not torch.equal(
        batch(dataset, epoch=1)["pixel_values"], first
    )
    other_seed = as_training_batches(Rows(noisy), NAMES, seed=2, num_views=2)
    assert not torch.equal(batch(other_seed)["pixel_values"], first)
    assert torch.equal(torch.get_rng_state(), states[0]) and np.random.get_state()[2] == states[1]
    assert random.getstate() == states[2]
    assert "read one by one from the given Rows; no crops or mirroring" in caplog.text
    assert "generator of its own" not in caplog.text
    own = np.random.default_rng(0)
    as_training_batches(Rows(lambda row: ((PLANES[row] * own.random()).byte(), 0)), NAMES, seed=1)
    assert "come from a generator of its own" in caplog.text


def test_two_views_of_unchanging_images_get_crops_of_this_package(caplog):
    dataset = as_training_batches(TensorDataset(PLANES.repeat(1, 1, 4, 4), torch.tensor(LABELS)), NAMES, 0, 2)
    views = batch(dataset)["pixel_values"]
    assert views.shape == (2, 2, 3, 20, 28) and not torch.equal(views[:, 0], views[:, 1])
    assert torch.equal(views, batch(dataset)["pixel_values"])
    assert "the same each time, so the 2 views get this package's random crops and mirroring" in caplog.text
    dataset = as_training_batches(TensorDataset(PLANES, torch.tensor(LABELS)), ("left", "right", "up"), 0, 2)
    assert not dataset.augmentation.horizontal_flip
    assert as_training_batches(TensorDataset(PLANES, torch.tensor(LABELS)), NAMES, 0).augmentation is None


def test_predict_split_takes_them():
    model = create_classifier("cifar_resnet8", NAMES, image_size=8)
    outputs = predict_split(model, HF, batch_size=4)
    assert outputs.labels.tolist() == LABELS
    torch.testing.assert_close(outputs.logits, model.eval()(PLANES).logits)


@pytest.mark.parametrize("names", [("dog", "cat", "fish"), ("cat", "dog", "fish"), ("a", "b", "c")])
def test_classes_that_are_numbered_in_another_way_are_refused(names):
    """As data sets of `datasets` know them, and those of torchvision. Other words are no difference."""
    images, classes = [PIL.Image.new("RGB", (4, 4))] * 3, datasets.ClassLabel(names=list(names))
    features = datasets.Features({"image": datasets.Image(), "label": classes})
    of_hub = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 2]}, features)
    of_torchvision = Rows(lambda row: (images[0], 0))
    of_torchvision.classes = list(names)
    for dataset in (of_hub, of_torchvision):
        if names[0] == "dog":
            with pytest.raises(ValueError, match="classes dog, cat, fish, the classifier cat, dog, fish"):
                as_batches(dataset, NAMES)
        else:
            assert as_batches(dataset, NAMES).num_classes == 3
