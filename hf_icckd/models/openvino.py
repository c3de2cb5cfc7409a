"""OpenVINO files: the ONNX file in OpenVINO's own format, written only if it agrees with torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.onnx import export_onnx, plain_copy
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.models.runtimes import openvino_core, run_openvino
from hf_icckd.models.same_logits import LogitComparison, check_comparison_options, check_same_logits
from hf_icckd.utils.atomic_files import sync
from hf_icckd.utils.formats import FORMATS, check_installed


def export_openvino(
    model: ImageClassifier | str | Path,
    path: str | Path,
    *,
    num_images: int = 1000,
    tolerance: float = 1e-4,
    onnx_file: str | Path | None = None,
) -> LogitComparison:
    """Write a classifier with its preprocessing for OpenVINO: a .xml file with the net, a .bin file with its weights.

    Input and output are those of `export_onnx`. The metadata of the ONNX file are in the .xml file:
    `model.get_rt_info(["hf_icckd", "label_names"])`.

    Args:
        model: A classifier, or anything that `from_pretrained` loads.
        path: The .xml file. Existing files are replaced only if the new ones agree with torch.
        num_images: Random images, from plain colours to noise, to compare on, in float32.
        tolerance: As for `export_onnx`.
        onnx_file: ONNX file of this classifier, if there is one.

    Raises:
        ValueError: If packages are missing, the net can't be exported, or the files disagree with torch.

    Example:
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> export_openvino(model, "student.xml").max_difference < 1e-4  # doctest: +SKIP
        True
    """
    check_installed(FORMATS["openvino"].packages, FORMATS["openvino"].extra, "OpenVINO export")
    check_comparison_options(num_images, tolerance)
    path = Path(path)
    if path.suffix != ".xml":
        raise ValueError(f"the OpenVINO file is {str(path)!r}, expected a name that ends in .xml")
    classifier = plain_copy(model if isinstance(model, ImageClassifier) else from_pretrained(model))
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the folder where the files go, so that they only have to be renamed.
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}", dir=path.parent) as folder:
        if onnx_file is None:
            onnx_file = Path(folder) / "model.onnx"
            export_onnx(classifier, onnx_file, num_images=num_images, tolerance=tolerance)
        unfinished = Path(folder) / path.name
        _convert(Path(onnx_file), unfinished, classifier.spec.architecture)
        run = run_openvino(unfinished, precision="f32")
        found = check_same_logits(classifier, run, "OpenVINO", path, num_images, tolerance)
        for file in (unfinished.with_suffix(".bin"), unfinished):
            sync(file)
            file.replace(path.parent / file.name)
    sync(path.parent)
    return found


def _convert(source: Path, target: Path, architecture: str) -> None:
    import onnx
    import openvino

    try:
        # The reader of the runtime and not `openvino.convert_model`, which reports its use over the network.
        converted = openvino_core().read_model(str(source))
        for entry in onnx.load(str(source)).metadata_props:
            converted.set_rt_info(entry.value, ["hf_icckd", entry.key])
        openvino.save_model(converted, str(target), compress_to_fp16=False)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"OpenVINO can't convert {architecture}: {text}") from error
