"""A folder that is a Gradio Space of one or two models, and runs without this package."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from timm.models import is_model, model_entrypoint

from hf_icckd.data.depth import Range
from hf_icckd.demo.comparison import shared_names
from hf_icckd.demo.page import Net
from hf_icckd.models.foreign import is_foreign
from hf_icckd.models.hub_names import hub_name
from hf_icckd.models.onnx import export_onnx
from hf_icckd.models.pretrained import save_pretrained
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.text import escape_markdown

Runtime = Literal["timm", "onnx"]
# Lower bounds, as in setup.cfg.
_SHARED = {"gradio": "6.31", "numpy": "2.0.2", "pillow": "11.3"}
_REQUIREMENTS: dict[Runtime, dict[str, str]] = {
    "timm": {**_SHARED, "timm": "1.0.29", "torch": "2.11"},
    "onnx": {**_SHARED, "onnxruntime": "1.22"},
}
_PYTHON = "3.11"


def check_place(name: str) -> Path:
    """Return the folder that the Space is written to, with its absolute path.

    Raises:
        ValueError: If it holds something, or the folder that it is in does not exist.
    """
    folder = user_path(name).absolute()
    if not folder.parent.is_dir():
        raise ValueError(f"space is {name!r}, whose folder does not exist; create it first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"space is {name!r}, expected a new or an empty folder; name another one, or remove it")
    return folder


def write_space(
    folder: Path,
    nets: Sequence[Net],
    examples: Sequence[Path] = (),
    *,
    repo_ids: Sequence[str] = (),
    licence: str | None = None,
    pixel_range: Range | None = None,
) -> Runtime:
    """Write the Space: app.py, requirements.txt, README.md, the models and examples. All of it is there, or nothing.

    Nets of timm are written as they are, and timm runs them. If one of the nets is none of timm's, all are exported,
    and ONNX Runtime runs them.

    Args:
        folder: From `check_place`.
        nets: One classifier, or a teacher and its student.
        examples: PNG files to click on.
        repo_ids: Where on the Hub each model is, so that the Space need not hold it; empty to put them into it.
        licence: Identifier of the licence; None if it is not known.
        pixel_range: Values of black and white in deep pictures; None for the range of their type.

    Returns:
        What runs the nets.

    Raises:
        ValueError: If a net can't be exported, or is to be loaded from the Hub and timm has no such architecture.
    """
    runtime: Runtime = "timm" if all(map(_is_timms, nets)) else "onnx"
    if repo_ids and runtime == "onnx":
        other = next(net for net in nets if not _is_timms(net)).model.spec.architecture
        raise ValueError(
            f"{other} is no architecture of timm, so a Space can't load it from the Hub without this package; leave "
            "out --repo_id, and the Space holds the model as an ONNX file"
        )
    with tempfile.TemporaryDirectory(prefix=".space-", dir=folder.parent) as temporary:
        staging = Path(temporary) / "space"
        staging.mkdir()
        names = _names(nets, repo_ids)
        places = list(repo_ids) or [_write_model(staging, net, runtime) for net in nets]
        if examples:
            (staging / "examples").mkdir()
        for path in examples:
            shutil.copyfile(path, staging / "examples" / path.name)
        texts = _texts(nets, runtime, dict(zip(names, places, strict=True)), repo_ids, licence, pixel_range)
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
        if folder.exists():  # and is empty
            folder.rmdir()
        staging.rename(folder)
    return runtime


def _is_timms(net: Net) -> bool:
    """Whether timm alone can build a net; the cifar_* architectures are registered by this package."""
    architecture = net.model.spec.architecture.partition(".")[0]
    known = not is_foreign(net.model) and is_model(architecture)
    return known and model_entrypoint(architecture).__module__.startswith("timm.")


def _write_model(staging: Path, net: Net, runtime: Runtime) -> str:
    """Write a model's files, and return their place in the Space."""
    if runtime == "timm":
        save_pretrained(staging / net.role, net.model)
        return net.role
    export_onnx(net.model, staging / f"{net.role}.onnx")
    return f"{net.role}.onnx"


def _names(nets: Sequence[Net], repo_ids: Sequence[str]) -> list[str]:
    """What the page calls the models: their roles, or the name of the only one."""
    if len(nets) > 1:
        return [net.role for net in nets]
    (origin,) = repo_ids or [nets[0].origin]
    hub = hub_name(origin) if repo_ids or not user_path(origin).exists() else None
    return [Path(hub.repository if hub else user_path(origin).absolute()).name]


def _texts(
    nets: Sequence[Net],
    runtime: Runtime,
    places: dict[str, str],
    repo_ids: Sequence[str],
    licence: str | None,
    pixel_range: Range | None,
) -> dict[str, str]:
    """Content of the text files by their names."""
    title = " and ".join(places).capitalize()
    header = {
        "title": title,
        "sdk": "gradio",
        "sdk_version": _gradio_version(),
        "python_version": _PYTHON,
        "app_file": "app.py",
        "license": licence,
        "models": [hub.repository for name in repo_ids or map(_not_here, nets) if (hub := hub_name(name)) is not None],
    }
    header = {name: value for name, value in header.items() if value}
    models = [
        {
            "name": name,
            "architecture": net.model.spec.architecture,
            "parameters": sum(parameter.numel() for parameter in net.model.parameters()),
            "image_size": net.model.spec.image_size,
        }
        for name, net in zip(places, nets, strict=True)
    ]
    classes = shared_names(*(net.model for net in nets))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["escape"] = escape_markdown

    def rendered(template: str, **values: Any) -> str:
        return environment.get_template(template).render(**values)

    return {
        "app.py": rendered(
            "space_app.py.jinja",
            runtime=runtime,
            models=json.dumps(places, ensure_ascii=False),
            title=json.dumps(title, ensure_ascii=False),
            pixel_range=pixel_range and tuple(pixel_range),
        ),
        "README.md": rendered(
            "space_readme.md.jinja",
            header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
            title=title,
            classes=classes,
            models=models,
        ),
        "requirements.txt": "".join(f"{name}>={bound}\n" for name, bound in _REQUIREMENTS[runtime].items()),
    }


def _not_here(net: Net) -> str:
    """Where a net was loaded from; empty for a folder on this machine, which may look like a Hub id."""
    return "" if user_path(net.origin).exists() else net.origin


def _gradio_version() -> str:
    """The Gradio that is installed, which the page was perhaps looked at with; else the oldest that will do."""
    try:
        return importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        return f"{_SHARED['gradio']}.0"
