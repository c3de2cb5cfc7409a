"""Publishing: check before training that the Hub will take the model, and push it when training has ended."""

from __future__ import annotations

import logging

from transformers.trainer_callback import TrainerCallback

from hf_icckd.hub import HubError, prepare_repo
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)


class HubCallback(TrainerCallback):
    """Refuses a run that could never be pushed, before it trains. The push itself comes when the run has ended."""

    def on_init_end(self, args, state, control, **kwargs):
        """Make sure the repository is there and open to the token; only the first process talks to the Hub.

        Raises:
            HubError: If the Hub refuses. If it can't be reached now, it may be when training has ended.
        """
        # Processes that differ in this would wait for each other.
        distributed.check_equal({"push_to_hub": args.push_to_hub})
        if args.push_to_hub:
            distributed.on_first_rank(lambda: self._prepare(args))

    def _prepare(self, args) -> None:
        try:
            prepare_repo(args.hub_repo_id, args.output_dir, private=args.hub_private_repo, token=args.hub_token)
        except HubError as error:
            if not error.passing:
                raise
            logger.warning("the Hub can't be used now: %s; training continues", error.reason)
