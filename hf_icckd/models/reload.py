"""Whether a classifier would be read back from its folder as the net it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import timm
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification
from transformers.utils import logging as transformers_logging

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.moved import moved_copy
from hf_icckd.models.pretrained import from_pretrained, save_pretrained

_TOLERANCE = 1e-5  # of the largest logit


def check_reload(classifier: ImageClassifier) -> None:
    """Check that this package, timm and transformers read a written folder as the net that was written.

    A copy with moved weights and statistics is saved to a temporary folder and loaded again; the logits of one image
    are compared. The classifier and the global generators stay as they are.

    Raises:
        ValueError: If one of the three can't load the folder, or gives other logits.

    Example:
        >>> from hf_icckd import create_classifier
        >>> check_reload(create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32))
    """
    size, name = classifier.spec.image_size, classifier.spec.architecture
    image = torch.linspace(-1, 1, 3 * size**2).view(1, 3, size, size)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), tempfile.TemporaryDirectory() as folder, _quiet():
        moved = moved_copy(classifier).cpu().float().train().eval()  # in train() timm nets drop what they cached
        expected = moved.outputs(image).logits
        save_pretrained(folder, moved)
        for library, load in _LOADERS.items():
            try:
                net = load(folder).eval()
                found = net(image)
            except Exception as error:  # each library raises many types
                text = " ".join(str(error).split())
                raise ValueError(
                    f"{name} can't be read by {library} once it is saved: {type(error).__name__}: {text[:300]}; "
                    "choose another net"
                ) from error
            logits = found if isinstance(found, Tensor) else found.logits
            difference = (logits - expected).abs().max().item()
            if not difference <= _TOLERANCE * expected.abs().max().item():
                raise ValueError(
                    f"{name} is read by {library} as another net once it is saved: logits differ by {difference:.3g}, "
                    f"the largest is {expected.abs().max().item():.3g}{_differing(moved.net, net)}; choose another net"
                )


_LOADERS: dict[str, Callable[[str], nn.Module]] = {
    "this package": lambda folder: from_pretrained(folder).net,
    "timm": lambda folder: timm.create_model(f"local-dir:{folder}", pretrained=True),
    "transformers": lambda folder: AutoModelForImageClassification.from_pretrained(folder),
}


def _differing(net: nn.Module, found: nn.Module) -> str:
    """Name the first settings and tensors that differ, for an error message."""
    found = getattr(found, "timm_model", found)
    settings = [
        f"{name}.{key} is {value} and becomes {theirs.get(key)}"
        for (name, module), theirs in zip(net.named_modules(), map(vars, found.modules()), strict=False)
        for key, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and theirs.get(key) != value
    ]
    tensors = found.state_dict()
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, tensors.get(name, value))]
    return "".join(f"; {text}" for text in (settings + [f"{name} changes" for name in changed])[:3])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
