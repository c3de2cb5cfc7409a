"""The page of the demo: drop a picture, see the soft label of each model. It fetches nothing from other servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hf_icckd.data.depth import Range
from hf_icckd.data.images import decode_image
from hf_icckd.demo.comparison import Answer, ask, describe, relate
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.utils.text import escape_markdown, percent

if TYPE_CHECKING:
    import gradio

# Should a version of Gradio want to fetch something from another server, the browser refuses.
_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
# Gradio shows a picture no larger than it is, which is a speck for the pictures of small nets.
_CSS = """
.picture img {width: 100%; height: 100%; object-fit: contain}
.tiny img {image-rendering: pixelated}
"""
_TINY = 96  # pixels; pictures for nets of at most this size are enlarged without blur
_PLAIN: dict[str, Any] = {"latex_delimiters": []}  # a class may be called "$5"
_EMPTY = "Drop or paste a picture."


class Net(NamedTuple):
    """A classifier on the page.

    Attributes:
        role: `teacher` and `student` of two; `model` of one.
        origin: Where it was loaded from.
        model: The classifier.
        means: Its class means, if there is a data set.
    """

    role: str
    origin: str
    model: ImageClassifier
    means: Tensor | None = None


def import_gradio() -> Any:
    """Import Gradio, with its telemetry off unless the user has turned it on.

    Raises:
        ValueError: If it is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise ValueError(
            f"gradio, which the demo needs, is missing ({error}); pip install 'hf-icckd[demo]'"
        ) from error
    return gradio


def build_page(
    nets: Sequence[Net],
    label_names: tuple[str, ...],
    note: str,
    examples: list[tuple[Path, str]],
    pixel_range: Range | None = None,
) -> gradio.Blocks:
    """The page, not yet served.

    Args:
        nets: A teacher and its student, or one classifier.
        label_names: Names of the classes, which all share.
        note: Where class means come from, or why there are none.
        examples: Pictures to click on, and the name of the class of each.
        pixel_range: Values of black and white in deep pictures; None for the range of their type.
    """
    gr = import_gradio()
    title = "Teacher and student" if len(nets) > 1 else "Classifier"
    # What people drop here is theirs: it is deleted within two hours.
    with gr.Blocks(title=title, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"## {title}\n{escape_markdown(note)}", **_PLAIN)
        answers = gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                tiny = ["tiny"] * (nets[0].model.spec.image_size <= _TINY)
                picture = gr.Image(
                    label="Picture", sources=["upload", "clipboard"], height=280, elem_classes=["picture", *tiny]
                )
                slider = gr.Slider(1, 10, value=1, step=0.5, label="Temperature")
                _add_examples(gr, picture, examples)
            with gr.Column(scale=3):
                shown = [gr.Markdown(_EMPTY, **_PLAIN)]
                with gr.Row():
                    for net in nets:
                        with gr.Column(min_width=260):
                            gr.Markdown(_heading(net), **_PLAIN)
                            shown.append(gr.Label(label="Soft label", show_heading=False))
                            shown.append(gr.Markdown(**_PLAIN))
        look, draw = _handlers(gr, nets, label_names, pixel_range)
        last = {"trigger_mode": "always_last", "show_progress": "minimal"}
        picture.change(look, [picture, slider], [answers, *shown], api_name="compare", preprocess=False, **last)
        slider.change(draw, [answers, slider], shown, api_visibility="private", **last)
    return page


def _add_examples(gr: Any, picture: Any, examples: list[tuple[Path, str]]) -> None:
    if examples:
        gr.Examples(
            [[str(path)] for path, _ in examples],
            picture,
            label="Test images of the classes",
            example_labels=[name for _, name in examples],
            examples_per_page=len(examples),
            cache_examples=False,
            elem_id="examples",
        )


def _handlers(
    gr: Any, nets: Sequence[Net], label_names: tuple[str, ...], pixel_range: Range | None
) -> tuple[Callable, Callable]:
    """What happens when the picture changes, and when the temperature does."""

    def look(file: dict[str, Any] | None, temperature: float) -> tuple:
        # Gradio has checked that the file was given to the page; data sets read their images in the same way.
        if file is None:
            return [], *draw([], temperature)
        try:
            image = decode_image(file, "the picture", pixel_range=pixel_range)
        except ValueError as error:
            text = str(error).replace(str(file["path"]), file["orig_name"] or "the file")
            raise gr.Error(text, print_exception=False) from error
        answers = [ask(net.model, image, net.means) for net in nets]
        return answers, *draw(answers, temperature)

    def draw(answers: list[Answer], temperature: float) -> tuple:
        if not answers:
            return _EMPTY, *(None, "") * len(nets)
        described = [describe(answer, label_names, temperature) for answer in answers]
        verdict = _opinion(described[0], temperature)
        if len(answers) > 1:
            verdict = _verdict(relate(answers[0], answers[1], label_names, temperature))
        columns = [
            (dict(found["soft_label"]), _details(net, found)) for net, found in zip(nets, described, strict=True)
        ]
        return verdict, *(cell for column in columns for cell in column)

    return look, draw


def _opinion(found: dict[str, Any], temperature: float) -> str:
    name, share = found["soft_label"][0]
    return f"### It says **{escape_markdown(name)}**.\nAt temperature {temperature:g}, with {percent(share)}."


def _verdict(found: dict[str, Any]) -> str:
    teacher, student = (escape_markdown(found[role]["soft_label"][0][0]) for role in ("teacher", "student"))
    verdict = (
        f"Both say **{teacher}**."
        if found["same_class"]
        else f"The teacher says **{teacher}**, the student **{student}**."
    )
    return f"### {verdict}\nAt temperature {found['temperature']:g}, KL(teacher ‖ student) is {found['kl']:.4f} nats."


def _heading(net: Net) -> str:
    parameters = sum(parameter.numel() for parameter in net.model.parameters())
    what = f"{net.model.spec.architecture}, {parameters:,} parameters"
    return f"### {net.role.capitalize()}\n{escape_markdown(net.origin)}  \n{escape_markdown(what)}"


def _details(net: Net, found: dict[str, Any]) -> str:
    """Nearest classes and latency of one net."""
    latency = f"**Latency**: {found['latency_ms']:.2f} ms on {escape_markdown(_device_name(net.model))}"
    if not found["neighbours"]:
        return latency
    nearest = ", ".join(f"{escape_markdown(name)} ({distance:.3f})" for name, distance in found["neighbours"])
    return f"**Nearest classes**, by cosine distance to the mean of each: {nearest}\n\n{latency}"


def _device_name(model: ImageClassifier) -> str:
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


def launch(page: gradio.Blocks, host: str, port: int, share: bool = False) -> list[str]:
    """Serve a page in the background and return its addresses.

    Args:
        page: From `build_page`.
        host: Address to listen on.
        port: Port to listen on.
        share: Whether to ask for a public address too.

    Raises:
        ValueError: If the port is taken or the host is no address of this machine.
    """
    gr = import_gradio()
    from starlette.middleware import Middleware  # comes with Gradio

    try:
        _, _, public = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            show_error=True,
            quiet=True,
            ssr_mode=False,
            theme=gr.themes.Default(**_FONTS),
            css=_CSS,
            footer_links=[],
            app_kwargs={"middleware": [Middleware(_OwnSourcesOnly)]},
        )
    except OSError as error:
        raise ValueError(
            f"port {port} of {host} can't be listened on: another program does, or it is no address of this machine; "
            "choose others with --port or --host"
        ) from error
    return [f"http://{host}:{port}", *([public] if public else [])]


class _OwnSourcesOnly:
    """Server middleware that adds `_POLICY` to every answer."""

    def __init__(self, app: Callable):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)
