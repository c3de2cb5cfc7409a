"""Model folders: their layout, which is that of timm and of transformers at once, and the way to the Hub and back."""

from hf_icckd.hub.layout import (
    ARGS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
    contiguous_state,
    fingerprint,
    from_pretrained,
    is_unnamed,
    published_files,
    save_pretrained,
)
from hf_icckd.hub.publishing import BackgroundPush, HubError, prepare_repo, push_to_hub

__all__ = [
    "ARGS_FILE",
    "CARD_FILE",
    "CONFIG_FILE",
    "METRICS_FILE",
    "WEIGHTS_FILE",
    "BackgroundPush",
    "HubError",
    "contiguous_state",
    "fingerprint",
    "from_pretrained",
    "is_unnamed",
    "prepare_repo",
    "published_files",
    "push_to_hub",
    "save_pretrained",
]
