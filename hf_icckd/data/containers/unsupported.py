"""What can't be read, recognised by the names of files: one sentence that says so, with the way round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_CIFAR_10 = re.compile(r"(data_batch_\d|test_batch)(\.bin)?")
_OBJECTS = re.compile(r"(instances_\w+|_annotations\.coco)\.json", re.IGNORECASE)
_PICKLE_FIX = (
    "where you trust the file, `import pickle, numpy; d = pickle.load(open(FILE, 'rb'), encoding='bytes')` reads it: "
    "save images and labels with numpy.savez('train.npz', images=..., labels=...)"
)
_LABEL_FILES = (  # that may hold labels beside images: suffixes, what they are, the way round
    (
        (".xlsx", ".xls", ".ods", ".numbers"),
        "a spreadsheet, which is not read",
        "save it as CSV (UTF-8) and give that with --labels",
    ),
    (
        (".json",),
        "a JSON document, which is not read",
        "if it holds records or columns of file names and labels, convert it with `import pandas; "
        "pandas.read_json(FILE).to_csv('labels.csv', index=False)`; if it is {file name: label}, with `import json, "
        "csv; csv.writer(open('labels.csv', 'w', newline='')).writerows([('file_name', 'label'), "
        "*json.load(open(FILE)).items()])`; then give --labels labels.csv",
    ),
    (
        (".parquet", ".arrow", ".feather", ".ipc"),
        "a table that is no text, and labels beside images are read from text alone",
        "convert it with `import pandas; pandas.read_parquet(FILE).to_csv('labels.csv', index=False)` (or "
        "read_feather) and give --labels labels.csv",
    ),
    ((".csv.gz", ".tsv.gz", ".csv.zip"), "a packed table", "unpack it and give the CSV file with --labels"),
    ((".db", ".sqlite", ".sqlite3"), "a database, which is not read", "export its table as CSV, for --labels"),
)
_ROWS = (  # suffixes, what they are, the way round
    (
        (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"),
        "a Python pickle, which is never opened, because it can run code",
        _PICKLE_FIX,
    ),
    (
        (".h5", ".hdf5", ".hdf"),
        "an HDF5 file, which is not read",
        "convert it: `import h5py, numpy; f = h5py.File(FILE); print(list(f)); numpy.savez('train.npz', "
        "images=f['KEY_OF_IMAGES'][:], labels=f['KEY_OF_LABELS'][:])`",
    ),
    (
        (".npy",),
        "a single array, which does not say what it is",
        "save images and labels together: `numpy.savez('train.npz', images=numpy.load(IMAGES), "
        "labels=numpy.load(LABELS))`",
    ),
    (
        (".tfrecord", ".tfrecords"),
        "a TFRecord file, which is not read",
        "write its images into a folder per class with tensorflow_datasets, or look for the data set on the Hub",
    ),
    (
        (".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".nrrd"),
        "a medical image (DICOM, NIfTI or the like), which is not read",
        "save its slices as 16-bit PNG files, for example with pydicom or nibabel and Pillow",
    ),
    (
        (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"),
        "a video, which is not read",
        "save frames as images, for example `ffmpeg -i FILE -vf fps=1 CLASS/FILE_%05d.jpg`, and keep the frames of "
        "one video together with --group_column",
    ),
    (
        (".rar", ".7z", ".zst", ".tzst"),
        "an archive of a kind that Python can't open",
        "unpack it, for example with `7z x` or `tar --zstd -xf`, and give the folder",
    ),
    ((".mdb", ".lmdb", ".rec"), "a database of images, which is not read", "write its images into a folder per class"),
    (
        (".feather", ".ipc"),
        "an Arrow file under a name that is not looked for",
        "call it .arrow, if it was written without compression, or save it as parquet",
    ),
    (
        (".json",),
        "a JSON document, which is not read as a table of images",
        "write its records one a line (.jsonl), for example with `pandas.read_json(FILE).to_json('train.jsonl', "
        "orient='records', lines=True)`",
    ),
    ((".xlsx", ".xls", ".ods"), "a spreadsheet, which is not read", "save it as CSV (UTF-8)"),
    ((".db", ".sqlite", ".sqlite3"), "a database, which is not read", "export its table as CSV or parquet"),
    (
        (".py",),
        "a Python script, and loading scripts are never run",
        "run it yourself once, save what it gives with `save_to_disk` of `datasets`, and give that folder",
    ),
)


def refusal(files: Sequence[PurePath]) -> str | None:
    """Say in one sentence which of the files can't be read, and the way round; None if all are of other kinds.

    Ask it where no images with labels were found, or they lie in no class folders.

    Args:
        files: Paths of the files relative to the data set.

    Example:
        >>> refusal([PurePath("valid/clip.avi")])[:34]
        'valid/clip.avi is a video, which i'
    """
    for reasons in (_boxes, _cifar, _matlab, _by_suffix, _boxes_beside_images):
        found = next(reasons(files), None)
        if found is not None:
            return found
    return None


def boxes_refusal(files: Sequence[PurePath]) -> str | None:
    """Say that files are a data set of several objects an image; None if they are not for certain.

    Ask it before anything else: its folders `images` and `labels` look like classes.
    """
    return next(_boxes(files), None)


def _several(example: PurePath, kind: str) -> str:
    return (
        f"{example.as_posix()} holds boxes or outlines of objects ({kind}), several an image, expected one class for "
        "an image; cut the objects out into a folder per class, or give one label an image with --labels FILE.csv "
        "(columns file_name,label)"
    )


def _boxes(files: Sequence[PurePath]) -> Iterator[str]:
    notes = [file for file in files if file.suffix.lower() not in _IMAGES]
    if not notes:
        return
    images = {(file.parent, file.stem) for file in files if file.suffix.lower() in _IMAGES}
    folders = {part.lower() for parent, _ in images for part in parent.parts}
    for file in notes:
        if _OBJECTS.fullmatch(file.name):
            yield _several(file, "COCO")
        if file.suffix.lower() == ".xml" and "jpegimages" in folders:
            yield _several(file, "Pascal VOC")
        if file.suffix.lower() == ".txt" and "labels" in file.parent.parts:
            place = len(file.parts) - 1 - file.parts[::-1].index("labels")
            beside = PurePath(*file.parts[:place], "images", *file.parts[place + 1 : -1])
            if (beside, file.stem) in images:
                yield _several(file, "YOLO")


def _boxes_beside_images(files: Sequence[PurePath]) -> Iterator[str]:
    images = {file.with_suffix("") for file in files if file.suffix.lower() in _IMAGES}
    for file in files:
        if file.suffix.lower() == ".xml" and file.with_suffix("") in images:
            yield _several(file, "Pascal VOC")


def _cifar(files: Sequence[PurePath]) -> Iterator[str]:
    names = {file.name: file for file in files}
    ten = next((file for name, file in names.items() if _CIFAR_10.fullmatch(name)), None)
    if ten is not None and ten.suffix == ".bin":
        yield f"{ten.as_posix()} is CIFAR's binary form, which is not read; use --dataset uoft-cs/cifar10 instead"
    elif ten is not None:
        yield _cifar_text(ten, "10", "data_batch_1", "labels")
    elif {"train", "test", "meta"} <= set(names):
        yield _cifar_text(names["train"], "100", "train", "fine_labels")


def _cifar_text(file: PurePath, classes: str, example: str, key: str) -> str:
    return (
        f"{file.as_posix()} is a Python pickle of CIFAR-{classes}, which is never opened, because it can run code; "
        f"use --dataset uoft-cs/cifar{classes}, or, where you trust the files, convert them: `import pickle, numpy; "
        f"d = pickle.load(open('{example}', 'rb'), encoding='bytes'); numpy.savez('train.npz', "
        f"images=d[b'data'].reshape(-1, 3, 32, 32), labels=d[b'{key}'])`, and the test images likewise"
    )


def _matlab(files: Sequence[PurePath]) -> Iterator[str]:
    names = {file.name.lower(): file for file in files if file.suffix.lower() == ".mat"}
    if "imagelabels.mat" in names:
        image = next((file for file in files if file.name.startswith("image_")), PurePath("image_"))
        folder = image.with_name("image_").as_posix()
        yield (
            f"{names['imagelabels.mat'].as_posix()} is a MATLAB file, which is not read (Oxford Flowers); write its "
            "labels into a table once: `from scipy.io import loadmat; y = loadmat('imagelabels.mat')['labels'][0]; s "
            "= loadmat('setid.mat'); n = {'train': 'trnid', 'validation': 'valid', 'test': 'tstid'}; "
            "open('labels.csv', 'w').writelines(['file_name,label,split\\n', *(f'FOLDER{i:05}.jpg,{y[i - 1]},{k}\\n' "
            "for k in n for i in s[n[k]][0])])`, and give --labels labels.csv"
        ).replace("FOLDER", folder)
    elif svhn := next((file for name, file in names.items() if name.endswith("_32x32.mat")), None):
        yield (
            f"{svhn.as_posix()} is a MATLAB file, which is not read (SVHN); use --dataset ufldl-stanford/svhn with "
            "--dataset_config_name cropped_digits, or convert it: `from scipy.io import loadmat; import numpy; d = "
            f"loadmat('{svhn.name}'); numpy.savez('{svhn.stem.split('_')[0]}.npz', "
            "images=d['X'].transpose(3, 0, 1, 2), labels=d['y'] % 10)`"
        )
    elif names:
        file = next(
            (file for name, file in names.items() if "anno" in name or "label" in name), next(iter(names.values()))
        )
        yield (
            f"{file.as_posix()} is a MATLAB file, which is not read; print it with `scipy.io.loadmat(FILE)`, write "
            "its labels into a table with the columns file_name,label (and split), and give --labels FILE.csv; if "
            "it holds the images too, save them with numpy.savez(FILE, images=..., labels=...)"
        )


def _by_suffix(files: Sequence[PurePath]) -> Iterator[str]:
    if any(file.suffix.lower() in _IMAGES for file in files):  # they are what is read, and other files stay out
        return
    for suffixes, what, fix in _ROWS:
        for file in files:
            name = file.name.lower()
            if name.endswith(suffixes) or (".tfrecord" in suffixes and ".tfrecord-" in name):
                yield f"{file.as_posix()} is {what}; {fix}"


def label_file_refusal(file: PurePath) -> str | None:
    """Say why a file can't give the labels of images, and the way round; None if its kind may be read.

    Example:
        >>> label_file_refusal(PurePath("labels.xlsx"))
        'labels.xlsx is a spreadsheet, which is not read; save it as CSV (UTF-8) and give that with --labels'
    """
    rows = (row for row in _LABEL_FILES if file.name.lower().endswith(row[0]))
    return next((f"{file.as_posix()} is {what}; {fix}" for _, what, fix in rows), None)
