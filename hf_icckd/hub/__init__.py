"""Publishing a model folder on the Hub: which files may go there, and the commit that takes them."""

from hf_icckd.hub.published import published_files
from hf_icckd.hub.push import HubError, prepare_repo, push_to_hub

__all__ = ["HubError", "prepare_repo", "published_files", "push_to_hub"]
