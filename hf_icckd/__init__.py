"""Teachers that teach: classification teachers with rich soft labels, and small students distilled from them."""

import importlib

import lazy_loader
import wrapt

from hf_icckd._version import __version__ as __version__

# Every name of `__init__.pyi` is imported when it is first used: the console command answers before torch is loaded.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
# A star import brings no rooms: `data` and `models` are names that users have of their own.
_ROOMS = {"data", "evaluation", "losses", "metrics", "models", "training"}
__all__ = sorted({*_names} - _ROOMS)


@wrapt.when_imported("timm")
def _register_nets(timm: object) -> None:
    """Register the cifar_* architectures as soon as there is a timm to register them in."""
    importlib.import_module("hf_icckd.models")
