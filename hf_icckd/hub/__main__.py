"""Publish the folder of a finished run: `hf-icckd push FOLDER [--repo_id NAMESPACE/NAME]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from hf_icckd.hub.push import push_to_hub
from hf_icckd.options.command_line import UserError, parse_command, readable_errors, set_up_logging
from hf_icckd.runs.layout import ARGS_FILE
from hf_icckd.utils.text import show


def main(argv: list[str] | None = None) -> None:
    """Push a folder, or resume a push that was cut off."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] not in (["push"], ["-h"], ["--help"]):
        raise UserError(f"{' '.join(argv[:1]) or 'no command'!r} is given, expected push FOLDER")
    push([word for index, word in enumerate(argv) if index or word != "push"])


def push(argv: list[str]) -> None:
    """Push a folder: the command `hf-icckd push`."""
    (args,) = parse_command("push", argv)
    set_up_logging()
    with readable_errors():
        # A run that was meant to be private must not become public when its push is repeated.
        recorded = _recorded(Path(args.folder) / ARGS_FILE)
        repo_id = args.repo_id or recorded.get("hub_model_id") or (recorded and Path(args.folder).absolute().name)
        if not repo_id:
            raise ValueError(f"{args.folder} names no repository; give one with --repo_id NAMESPACE/NAME")
        commit = push_to_hub(
            args.folder,
            repo_id,
            private=args.private or recorded.get("hub_private_repo"),
            revision=args.revision or recorded.get("hub_revision"),
            commit_message=args.commit_message,
            create_pr=args.create_pr,
        )
        show(f"{args.folder} is on the Hub: {commit.pr_url or commit.repo_url}")


def _recorded(path: Path) -> dict[str, Any]:
    """Recorded options of the run; empty if the folder holds none."""
    if not path.is_file():
        return {}
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        options = None
    if not isinstance(options, dict):
        raise ValueError(f"{path} is damaged, expected options of a run; restore the file, or write the folder again")
    return options


if __name__ == "__main__":
    main()
