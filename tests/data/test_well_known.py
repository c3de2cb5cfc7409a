"""Well-known data sets as they unpack, small: read rightly, or refused with the fix."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_icckd.data import load_image_data
from tests.data.zoo import picture, put, reading, write

pytestmark = pytest.mark.usefixtures("own_cache")


def refused(folder: Path, *parts: str, **options) -> None:
    """Check that a data set is refused with these words, in this order."""
    with pytest.raises(ValueError, match=re.compile(".*".join(parts), re.DOTALL)) as caught:
        load_image_data(folder, **options)
    assert len(str(caught.value)) < 2000


def test_tiny_imagenet(tmp_path):
    for name in ("n01443537", "n01629819"):
        write(tmp_path, {f"tiny-imagenet-200/train/{name}/images/": 5})
        boxes = f"{name}_0.JPEG\t0\t10\t63\t58\n"
        put(tmp_path / f"tiny-imagenet-200/train/{name}/{name}_boxes.txt", boxes.encode())
    lines = [f"images-0{i}.png\tn0{(1443537, 1629819)[i % 2]}\t0\t32\t44\t62\n" for i in range(4)]
    write(
        tmp_path,
        {
            "tiny-imagenet-200/val/images/": 4,
            "tiny-imagenet-200/test/images/": 3,
            "tiny-imagenet-200/val/val_annotations.txt": "".join(lines),
            "tiny-imagenet-200/wnids.txt": "n01443537\nn01629819\n",
            "tiny-imagenet-200/words.txt": "n01443537\tgoldfish\n",
        },
    )
    data = load_image_data(tmp_path)
    train, test = {"n01443537": 5, "n01629819": 5}, {"n01443537": 2, "n01629819": 2}
    assert reading(data) == {"train": train, "test": test}
    assert "val_annotations.txt" in data.origins["test"]
    left_out = {left.reason.partition(":")[0]: left.count for left in data.left_out}
    assert left_out == {"files that are no images": 5, "rows of folder tiny-imagenet-200/test (test split)": 3}


def test_imagenette(tmp_path):
    tree = {f"imagenette2-160/{split}/n0{i}/": n for split, n in (("train", 5), ("val", 2)) for i in range(2)}
    noisy = "path,noisy_labels_0,is_valid\n" + "".join(
        f"train/n0{i}/n0{i}-0{k}.png,n00,False\n" for i in range(2) for k in range(5)
    )
    data = load_image_data(write(tmp_path, tree | {"imagenette2-160/noisy_imagenette.csv": noisy}))
    assert reading(data) == {"train": {"n00": 5, "n01": 5}, "test": {"n00": 2, "n01": 2}}


def test_caltech_101(tmp_path):
    tree = {f"caltech-101/101_ObjectCategories/{name}/": 4 for name in ("accordion", "BACKGROUND_Google", "Faces")}
    data = load_image_data(write(tmp_path, tree | {"caltech-101/Annotations/Faces/annotation_0001.mat": "x"}))
    assert reading(data, cut=True) == {"all": {"BACKGROUND_Google": 4, "Faces": 4, "accordion": 4}}


def test_food_101(tmp_path):
    tree: dict = {f"food-101/images/{name}/": 4 for name in ("apple_pie", "waffles")}
    for split, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = [f"{name}/{name}-0{i}" for name in ("apple_pie", "waffles") for i in numbers]
        tree |= {f"food-101/meta/{split}.txt": "\n".join(lines), f"food-101/meta/{split}.json": json.dumps(lines)}
    tree |= {"food-101/meta/classes.txt": "apple_pie\nwaffles\n", "food-101/meta/labels.txt": "Apple pie\nWaffles\n"}
    data = load_image_data(write(tmp_path, tree))
    assert reading(data) == {"train": {"apple_pie": 3, "waffles": 3}, "test": {"apple_pie": 1, "waffles": 1}}
    assert data.origins["test"] == "list food-101/meta/test.txt"


def test_oxford_pets(tmp_path):
    names = [f"{pet}_{i}" for pet in ("Abyssinian", "great_dane") for i in range(1, 6)]
    tree: dict = {f"images/{name}.jpg": 1 for name in names} | {f"annotations/trimaps/{name}.png": 1 for name in names}
    for split, kept in (("trainval", names[:4] + names[5:9]), ("test", [names[4], names[9]])):
        tree[f"annotations/{split}.txt"] = "".join(f"{name} 1 1 1\n" for name in kept)
    refused(write(tmp_path, tree), "no folder per class", r"2 classes \(Abyssinian, great_dane\)", "--label_pattern '")
    data = load_image_data(tmp_path, label_pattern=r"([^/]+)_\d+\.jpg$")
    assert reading(data) == {"train": {"Abyssinian": 4, "great_dane": 4}, "test": {"Abyssinian": 1, "great_dane": 1}}


def test_oxford_flowers(tmp_path):
    tree = {f"jpg/image_{i:05}.jpg": 1 for i in range(4)}
    refused(
        write(tmp_path, tree | {"imagelabels.mat": "x", "setid.mat": "x"}), "no folder per class", r"\.mat", "--labels"
    )


def test_stanford_cars(tmp_path):
    tree: dict = {
        "cars_train/": 4,
        "cars_test/": 2,
        "devkit/cars_train_annos.mat": "x",
        "devkit/train_perfect_preds.txt": "1\n",
    }
    refused(write(tmp_path / "original", tree), "no folder per class", r"cars_train_annos\.mat", "--labels")
    kaggle = {
        f"car_data/car_data/{split}/{car}/": n
        for split, n in (("train", 4), ("test", 2))
        for car in ("Audi S4", "BMW M3")
    }
    data = load_image_data(write(tmp_path / "kaggle", kaggle))
    assert reading(data) == {"train": {"Audi S4": 4, "BMW M3": 4}, "test": {"Audi S4": 2, "BMW M3": 2}}


def test_cub(tmp_path):
    birds = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    tree: dict = {f"CUB_200_2011/images/{bird}/": 4 for bird in birds}
    tree |= {f"segmentations/{bird}/": 4 for bird in birds}
    paths = [f"{bird}/{bird}-0{i}.png" for bird in birds for i in range(4)]
    tree["CUB_200_2011/images.txt"] = "".join(f"{i} {path}\n" for i, path in enumerate(paths, 1))
    tree["CUB_200_2011/train_test_split.txt"] = "".join(f"{i} {int(i % 4 != 0)}\n" for i in range(1, 9))
    tree["CUB_200_2011/classes.txt"] = "".join(f"{i} {bird}\n" for i, bird in enumerate(birds, 1))
    tree["CUB_200_2011/parts/parts.txt"] = "1 back\n"
    archive = {name: content for name, content in tree.items() if name.startswith("CUB")}
    data = load_image_data(write(tmp_path / "cub", archive))
    assert reading(data) == {"train": dict.fromkeys(birds, 3), "test": dict.fromkeys(birds, 1)}
    assert "train_test_split.txt" in data.origins["test"]
    refused(write(tmp_path / "both", tree), "lies in two places", "--train_split")
    chosen = load_image_data(tmp_path / "both", train_split=["CUB_200_2011/images"])
    assert reading(chosen, cut=True) == {"all": dict.fromkeys(birds, 4)}


def test_dogs_vs_cats(tmp_path):
    tree = {f"train/{pet}.{i}.jpg": 1 for pet in ("cat", "dog") for i in range(5)} | {
        f"test1/{i}.jpg": 1 for i in range(3)
    }
    write(tmp_path, tree | {"sampleSubmission.csv": "id,label\n1,0\n2,0\n"})
    refused(tmp_path, "no folder per class", r"2 classes \(cat, dog\)", "--label_pattern")
    pattern = r"([^/]+)\.\d+\.jpg$"
    refused(tmp_path, "finds no label in 3 of 13 paths", "--missing_labels skip", label_pattern=pattern)
    data = load_image_data(tmp_path, label_pattern=pattern, missing_labels="skip")
    assert reading(data, cut=True) == {"all": {"cat": 5, "dog": 5}}


def test_chest_x_ray(tmp_path):
    sizes = {"train": 6, "test": 3, "val": 2}
    tree = {f"chest_xray/{split}/{kind}/": n for split, n in sizes.items() for kind in ("NORMAL", "PNEUMONIA")}
    tree |= {f"chest_xray/chest_xray/{split}/{kind}/": 2 for split in sizes for kind in ("NORMAL", "PNEUMONIA")}
    data = load_image_data(write(tmp_path, tree | {"chest_xray/__MACOSX/": 3, "chest_xray/train/.DS_Store": "x"}))
    names = {"train": "train", "test": "test", "validation": "val"}
    assert reading(data) == {
        split: dict.fromkeys(("NORMAL", "PNEUMONIA"), sizes[name]) for split, name in names.items()
    }


def test_ham10000(tmp_path):
    tree = {f"HAM10000_images_part_{part}/ISIC_{part}{i}.jpg": 1 for part in (1, 2) for i in range(6)}
    rows = [("lesion_id", "image_id", "dx", "age")]
    rows += [
        (f"HAM_{part}{i // 2}", f"ISIC_{part}{i}", ("nv", "mel")[i % 2], 40 + i) for part in (1, 2) for i in range(6)
    ]
    write(tmp_path, tree)
    with (tmp_path / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    refused(
        tmp_path, "no folder per class", r"HAM10000_metadata\.csv has the columns lesion_id, image_id, dx", "--labels"
    )
    table = "HAM10000_metadata.csv"
    refused(tmp_path, "several columns may hold the labels: .*dx", "--label_column", labels=table)
    options = {"labels": table, "label_column": "dx", "group_column": "lesion_id"}
    data = load_image_data(tmp_path, **options, test_fraction=0.4)
    assert reading(data, cut=True) == {"all": {"mel": 6, "nv": 6}}
    assert not set(data.train["group"]) & set(data.test["group"])


def test_intel_scenes(tmp_path):
    tree = {
        f"seg_{split}/seg_{split}/{scene}/": n
        for split, n in (("train", 5), ("test", 2))
        for scene in ("forest", "sea")
    }
    data = load_image_data(write(tmp_path, tree | {"seg_pred/seg_pred/": 4}))
    assert reading(data) == {"train": {"forest": 5, "sea": 5}, "test": {"forest": 2, "sea": 2}}
    assert [left.count for left in data.left_out] == [4]


def test_plant_village(tmp_path):
    leaves = ("Apple___scab", "Grape___healthy")
    tree = {
        f"plantvillage dataset/{kind}/{leaf}/": 3 for kind in ("color", "grayscale", "segmented") for leaf in leaves
    }
    refused(write(tmp_path, tree), "'grayscale' looks like one of several versions", "--train_split")
    data = load_image_data(tmp_path, train_split=["color"])
    assert reading(data, cut=True) == {"all": dict.fromkeys(leaves, 3)}
    assert [left.count for left in data.left_out] == [12]


def test_gtsrb(tmp_path):
    signs = {f"Train/{sign}/": 4 for sign in range(3)} | {f"Test/{i:05}.png": 1 for i in range(6)}
    rows = "".join(f"29,30,{(i + 1) % 3},{i % 3},Test/{i:05}.png\n" for i in range(6))  # 1 to 3 may be a place too
    table = f"Width,Height,Roi.X1,ClassId,Path\n{rows}"
    data = load_image_data(write(tmp_path / "kaggle", {**signs, "Meta/": 3, "Test.csv": table}))
    assert reading(data) == {"train": dict.fromkeys("012", 4), "test": dict.fromkeys("012", 2)}
    assert data.origins["test"] == "folder Test, labels from Test.csv, column 'ClassId'"
    tree = {f"Final_Training/Images/0000{sign}/": 4 for sign in range(3)} | {"Final_Test/Images/": 6}
    rows = "".join(f"Images-0{i}.png;29;30;{i % 3}\n" for i in range(6))
    tree |= {"Final_Test/Images/GT-final_test.csv": f"Filename;Width;Height;ClassId\n{rows}"}
    names = ("00000", "00001", "00002")
    data = load_image_data(write(tmp_path / "official", tree))
    assert reading(data) == {"train": dict.fromkeys(names, 4), "test": dict.fromkeys(names, 2)}


def test_dtd(tmp_path):
    tree: dict = {f"dtd/images/{kind}/": 6 for kind in ("banded", "blotchy")}
    for fold in (1, 2):
        for part, split in enumerate(("train", "val", "test")):
            numbers = [(2 * part + i + fold) % 6 for i in range(2)]
            lines = [f"{kind}/{kind}-0{i}.png\n" for kind in ("banded", "blotchy") for i in numbers]
            tree[f"dtd/labels/{split}{fold}.txt"] = "".join(lines)
    refused(write(tmp_path, tree), "several lists for one split", "--train_split dtd/labels/train1.txt")
    options = {f"{role}_split": [f"dtd/labels/{name}1.txt"] for role, name in (("train", "train"), ("test", "test"))}
    two = {"banded": 2, "blotchy": 2}
    assert reading(load_image_data(tmp_path, **options)) == {"train": two, "test": two}


def test_fashion_products(tmp_path):
    rows = "".join(f"{i},{'ab'[i % 2]},name{', with a comma' if i == 3 else ''}\n" for i in range(6))
    tree = {f"images/{i}.jpg": 1 for i in range(6)} | {"styles.csv": f"id,kind,name\n{rows}"}
    refused(write(tmp_path, tree), r"styles\.csv is not used", "row 5 has 4 cells, expected 3")


def test_mvtec(tmp_path):
    tree = {
        "bottle/train/good/": 5,
        "bottle/test/good/": 2,
        "bottle/test/broken/": 2,
        "bottle/ground_truth/broken/": 2,
    }
    refused(write(tmp_path, tree), "the classes broken have no training image", "--train_split bottle/test")


def test_mini_imagenet(tmp_path):
    tree: dict = {f"images/{pet}_{i}.jpg": 1 for pet in ("cat", "dog") for i in range(9)}
    for split, numbers in (("train", range(5)), ("test", range(5, 9))):
        rows = [f"{pet},{pet}_{i}.jpg\n" for pet in ("cat", "dog") for i in numbers]
        tree[f"{split}.csv"] = "".join(["label,filename\n", *rows])
    refused(write(tmp_path, tree), "--test_split test.csv --train_split train.csv")
    data = load_image_data(tmp_path, train_split=["train.csv"], test_split=["test.csv"])
    assert reading(data) == {"train": {"cat": 5, "dog": 5}, "test": {"cat": 4, "dog": 4}}


def test_eurosat(tmp_path):
    data = load_image_data(write(tmp_path / "a", {"EuroSAT_RGB/Forest/": 4, "EuroSAT_RGB/River/": 4}))
    assert reading(data, cut=True) == {"all": {"Forest": 4, "River": 4}}
    tree: dict = {"EuroSAT/Forest/": 4, "EuroSAT/River/": 4, "EuroSAT/label_map.json": '{"Forest": 0}'}
    for split, numbers in (("train", (0, 1)), ("validation", (2,)), ("test", (3,))):
        lines = [f"{i},{k}/{k}-0{i}.png,{n},{k}\n" for n, k in enumerate(("Forest", "River")) for i in numbers]
        tree[f"EuroSAT/{split}.csv"] = "".join([",Filename,Label,ClassName\n", *lines])
    one = {"Forest": 1, "River": 1}
    expected = {"train": {"Forest": 2, "River": 2}, "validation": one, "test": one}
    assert reading(load_image_data(write(tmp_path / "b", tree))) == expected


def mnist() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of both splits."""
    rng = np.random.default_rng(0)
    sizes = {"train": 20, "test": 10}
    return {k: (rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), np.arange(n) % 10) for k, n in sizes.items()}


DIGITS = {"train": {str(i): 2 for i in range(10)}, "test": {str(i): 1 for i in range(10)}}


def test_mnist_as_folders(tmp_path):
    tree = {f"{split}/{i}/": n for split, n in (("training", 2), ("testing", 1)) for i in range(10)}
    data = load_image_data(write(tmp_path, tree))
    assert (reading(data), data.mirrored) == (DIGITS, False)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_as_idx(tmp_path, packed):
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = mnist()[split]
        for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels.astype(np.uint8))):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
            put(tmp_path / f"{prefix}-{name}{'.gz' if packed else ''}", gzip.compress(content) if packed else content)
    assert reading(load_image_data(tmp_path)) == DIGITS


def test_mnist_and_medmnist_as_npz(tmp_path):
    keras = {
        f"{kind}_{split}": array for split, pair in mnist().items() for kind, array in zip("xy", pair, strict=True)
    }
    np.savez(tmp_path / "mnist.npz", **keras)
    assert reading(load_image_data(tmp_path / "mnist.npz")) == DIGITS
    medical = {}
    for split, source in (("train", "train"), ("val", "test"), ("test", "test")):
        images, labels = mnist()[source]
        medical |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(tmp_path / "pathmnist.npz", **medical)
    assert reading(load_image_data(tmp_path / "pathmnist.npz")) == DIGITS | {"validation": DIGITS["test"]}


def test_mnist_as_csv(tmp_path):
    for split, (images, labels) in mnist().items():
        with (tmp_path / f"mnist_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", *(f"{i}x{k}" for i in range(1, 29) for k in range(1, 29))])
            writer.writerows([label, *image.ravel()] for image, label in zip(images, labels, strict=True))
    assert reading(load_image_data(tmp_path)) == DIGITS


def test_mnist_as_parquet(tmp_path):
    for split, (_, labels) in mnist().items():
        images = [{"bytes": picture(f"{split}{i}"), "path": None} for i in range(len(labels))]
        path = tmp_path / "mnist" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": images, "label": labels}), path)
    assert reading(load_image_data(tmp_path)) == DIGITS


def test_cifar_as_pickles(tmp_path):
    batch = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]})
    for name in ("data_batch_1", "data_batch_2", "test_batch", "batches.meta"):
        put(tmp_path / "cifar-10-batches-py" / name, batch)
    refused(tmp_path, "Python pickle of CIFAR-10, which is never opened", "uoft-cs/cifar10")


def test_coco(tmp_path):
    tree = {"train2017/": 4, "val2017/": 2, "annotations/instances_train2017.json": "{}"}
    refused(
        write(tmp_path, tree), r"instances_train2017\.json holds boxes or outlines of objects \(COCO\)", "--labels"
    )


def test_archives_are_read_where_they_lie(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split, count in (("train", 4), ("test", 2)):
            for name in ("cat", "dog"):
                for number in range(count):
                    member = f"pets/{split}/{name}/{number}.png"
                    archive.writestr(member, picture(member))
        archive.writestr("__MACOSX/pets/._x", b"x")
    put(tmp_path / "pets.zip", buffer.getvalue())
    expected = {"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}}
    assert reading(load_image_data(tmp_path)) == expected
    assert reading(load_image_data(tmp_path / "pets.zip")) == expected
    for name in ("cats", "dogs"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(4):
                archive.writestr(f"{number}.png", picture(f"{name}{number}"))
    (tmp_path / "pets.zip").unlink()
    assert reading(load_image_data(tmp_path), cut=True) == {"all": {"cats": 4, "dogs": 4}}
    put(tmp_path / "dogs.zip", b"PK")
    refused(tmp_path, r"archive dogs\.zip can't be read")


def packed(tree: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in tree.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_archives_of_splits_and_classes(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):  # of the same names in two folders
            images = {f"{number}": picture(f"{split}{name}{number}") for number in range(count)}  # without suffix
            put(tmp_path / "a" / split / f"{name}.zip", packed(images))
    assert reading(load_image_data(tmp_path / "a")) == {"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}}
    put(tmp_path / "b" / "all.zip", packed({"train.zip": packed({"cat/1.png": picture("1")})}))
    refused(tmp_path / "b", r"holds other archives \(train\.zip\): unpack it once")
    write(tmp_path / "c", {"test/cat/": 2, "test/dog/": 2})
    put(tmp_path / "c" / "train.zip", packed({"cat/1.png": picture("1")}))
    refused(tmp_path / "c", "none to train on", r"Archives beside images are not read: unpack train\.zip")


def test_labels_beside_an_archive(tmp_path):
    put(tmp_path / "train.zip", packed({f"{number}.jpg": picture(f"{number}") for number in range(6)}))
    write(tmp_path, {"labels.csv": "id,breed\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(6))})
    refused(tmp_path, r"labels\.csv has the columns id, breed")
    data = load_image_data(tmp_path, labels="labels.csv")
    assert reading(data, cut=True) == {"all": {"x": 3, "y": 3}}
