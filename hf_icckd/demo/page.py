"""The page of the demo: a picture goes in, two soft labels come out. Nothing on it is fetched from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hf_icckd.data.images import decode_image
from hf_icckd.demo.comparison import Answer, ask, relate
from hf_icckd.models.classifier import ImageClassifier

if TYPE_CHECKING:
    import gradio

# Blocks whatever the page would fetch from elsewhere, should a version of Gradio try.
_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
_CSS = """
.nets {display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.5rem 2.5rem}
.nets h3, .nets h4 {margin: 0 0 .3rem}
.nets h4 {margin-top: .9rem}
.nets .row {display: grid; grid-template-columns: 6rem 1fr 4.5rem; gap: .6rem; align-items: center; margin: .2rem 0}
.nets .name {overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
.nets .bar {height: .8rem; border-radius: .2rem; background: var(--border-color-primary)}
.nets .bar span {display: block; height: 100%; border-radius: inherit; background: var(--color-accent)}
.nets .value {text-align: right; font-variant-numeric: tabular-nums}
.aside {opacity: .75; font-weight: normal; overflow-wrap: anywhere}
.verdict {font-size: 1.2rem}
.verdict + .aside {margin-bottom: 1rem}
.picture img {width: 100%; height: 100%; object-fit: contain}
.tiny img {image-rendering: pixelated}
"""
_EMPTY = '<div class="aside">Drop or paste a picture.</div>'
_TINY = 96  # pixels; nets for such images are shown some, which would be a blur


class Net(NamedTuple):
    """A classifier of the page: its role, where it was loaded from, and its class means if there is a data set."""

    role: str
    origin: str
    model: ImageClassifier
    means: Tensor | None = None


def import_gradio() -> Any:
    """Gradio, told to report nothing to its makers unless the user has said that it may.

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
    teacher: Net, student: Net, label_names: tuple[str, ...], note: str, examples: list[tuple[Path, str]]
) -> gradio.Blocks:
    """The page, not yet served.

    Args:
        teacher: The one net.
        student: The other, with the same classes.
        label_names: Names of the classes.
        note: Where class means come from, or why there are none.
        examples: Pictures to click on and the names of their classes.
    """
    gr = import_gradio()

    # Gradio checks that it was given the file. Reading it is left to what reads those of data sets.
    def look(file: dict[str, Any] | None, temperature: float) -> tuple[list[Answer], str]:
        if file is None:
            return [], _EMPTY
        try:
            image = decode_image(file, "the picture")
        except ValueError as error:
            text = str(error).replace(str(file["path"]), file["orig_name"] or "the file")
            raise gr.Error(text, print_exception=False) from error
        answers = [ask(net.model, image, net.means) for net in (teacher, student)]
        return answers, draw(answers, temperature)

    def draw(answers: list[Answer], temperature: float) -> str:
        return _answer_html(relate(*answers, label_names, temperature), (teacher, student)) if answers else _EMPTY

    # What people drop here is theirs: it is deleted within an hour or two.
    with gr.Blocks(title="Teacher and student", delete_cache=(3600, 3600)) as page:
        gr.HTML(f'<h2>Teacher and student</h2><p class="aside">{escape(note)}</p>')
        answers = gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                picture = gr.Image(
                    label="Picture", sources=["upload", "clipboard"], height=280,
                    elem_classes=["picture"] + ["tiny"] * (teacher.model.spec.image_size <= _TINY),
                )  # fmt: skip
                slider = gr.Slider(1, 10, value=1, step=0.5, label="Temperature")
                if examples:
                    paths, labels = zip(*examples, strict=True)
                    gr.Examples(
                        [[str(path)] for path in paths], picture, label="Test images of the classes",
                        example_labels=list(labels), examples_per_page=len(paths), cache_examples=False,
                        elem_id="examples",
                    )  # fmt: skip
            with gr.Column(scale=3):
                result = gr.HTML(_EMPTY)
        last = {"trigger_mode": "always_last", "show_progress": "minimal"}
        picture.change(look, [picture, slider], [answers, result], api_name="compare", preprocess=False, **last)
        slider.change(draw, [answers, slider], result, api_visibility="private", **last)
    return page


def launch(page: gradio.Blocks, host: str, port: int, share: bool = False) -> list[str]:
    """Serve a page without waiting for its end.

    Args:
        page: From `build_page`.
        host: Address to listen on.
        port: Port to listen on.
        share: Whether to ask for a public address too.

    Returns:
        Addresses of the page.

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
    """Adds `_POLICY` to every answer of the server.

    Args:
        app: The server.
    """

    def __init__(self, app: Callable):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _answer_html(found: dict[str, Any], nets: tuple[Net, Net]) -> str:
    first = [found[net.role]["soft_label"][0][0] for net in nets]
    if found["same_class"]:
        verdict = f"Both say <b>{escape(first[0])}</b>."
    else:
        verdict = f"The teacher says <b>{escape(first[0])}</b>, the student <b>{escape(first[1])}</b>."
    divergence = f"At temperature {found['temperature']:g}, KL(teacher ‖ student) is {found['kl']:.4f} nats."
    columns = "".join(_net_html(net, found[net.role]) for net in nets)
    return (
        f'<div class="verdict">{verdict}</div><div class="aside">{divergence}</div><div class="nets">{columns}</div>'
    )


def _net_html(net: Net, found: dict[str, Any]) -> str:
    """One net's column; names come from data sets and are escaped."""
    parameters = sum(parameter.numel() for parameter in net.model.parameters())
    rows = [_row(name, f"{100 * share:.2f} %", share) for name, share in found["soft_label"]]
    if found["neighbours"]:
        rows.append('<h4>Nearest classes</h4><div class="aside">by cosine distance to the mean of each</div>')
        rows += [_row(name, f"{distance:.3f}") for name, distance in found["neighbours"]]
    return f"""<section><h3>{net.role.capitalize()}</h3>
<div class="aside">{escape(str(net.origin))}<br>{net.model.spec.architecture}, {parameters:,} parameters</div>
<h4>Soft label</h4>{"".join(rows)}
<h4>Latency</h4><div>{found["latency_ms"]:.2f} ms <span class="aside">on {escape(_device_name(net.model))}</span></div>
</section>"""


def _row(name: str, value: str, share: float | None = None) -> str:
    name = escape(name)
    bar = "" if share is None else f'<span class="bar"><span style="width: {100 * share:.2f}%"></span></span>'
    return (
        f'<div class="row"><span class="name" title="{name}">{name}</span>{bar or "<span></span>"}'
        f'<span class="value">{value}</span></div>'
    )


def _device_name(model: ImageClassifier) -> str:
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type
