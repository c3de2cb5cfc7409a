"""Pushing a model folder to the Hub: what may go there, and one commit that brings it there."""

from hf_icckd.hub.published import published_files
from hf_icckd.hub.push import BackgroundPush, HubError, prepare_repo, push_to_hub

__all__ = ["BackgroundPush", "HubError", "prepare_repo", "published_files", "push_to_hub"]
