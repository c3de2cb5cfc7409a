"""Push a model folder to the Hub in one commit, and say what to do if that fails."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HTTPError

from hf_icckd._version import __version__
from hf_icckd.hub.published import published_files
from hf_icckd.models.pretrained import WEIGHTS_FILE

# HTTP status codes after which the same request may succeed later.
_PASSING = {408, 409, 412, 425, 429, 500, 502, 503, 504}


class HubError(ValueError):
    """A request to the Hub failed; the message says why, and with which command to try again.

    Attributes:
        reason: Why it failed.
        passing: Whether the same request may succeed later.
    """

    def __init__(self, what: str, reason: str, fix: str, passing: bool):
        super().__init__(f"{what}: {reason}. {fix}")
        self.reason, self.passing = reason, passing


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """Push a model folder to the Hub in one commit.

    Weights, config, card, metrics, options and pictures are pushed, and nothing else in the folder; see
    `published_files`. Files that are on the Hub already are not sent again, so the same call resumes a push that was
    cut off.

    Args:
        folder: A folder with config and weights, such as a finished run. It is not changed.
        repo_id: `namespace/name`, or a name in your own namespace; created if missing.
        private: Whether a new repository is private; None for the default of the namespace.
        revision: Branch to commit to, created if missing; None for `main`.
        commit_message: First line of the commit; None for one that names the package.
        create_pr: Whether to open a pull request instead.
        token: Token with write access; None for HF_TOKEN or the login of `hf auth login`.

    Returns:
        The new commit, or the latest one if nothing had changed.

    Raises:
        ValueError: If the folder holds no model, or a file that must not be published.
        HubError: If the Hub can't be reached or refuses.

    Example:
        >>> import tempfile
        >>> from hf_icckd import create_classifier, push_to_hub, save_pretrained
        >>> from hf_icckd.hub import published_files
        >>> folder = tempfile.mkdtemp()
        >>> save_pretrained(folder, create_classifier("cifar_resnet8", ("cat", "dog"), image_size=8))
        >>> [file.name for file in published_files(folder)]  # what would be pushed
        ['config.json', 'model.safetensors']
        >>> push_to_hub(folder, "me/cats-and-dogs", private=True)  # doctest: +SKIP
    """
    folder = Path(folder)
    files = published_files(folder)
    _check_secrets(files, token)
    command = _push_command(folder, repo_id, private, revision, commit_message, create_pr)
    fix = f"Nothing here is lost; try again with `{command}`"
    with _explained(f"{folder} could not be pushed to {repo_id}", repo_id, token, fix):
        api = _client(token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return api.create_commit(
            repo_id,
            [CommitOperationAdd(file.name, file) for file in files],
            commit_message=commit_message or f"Model of hf_icckd {__version__}",
            revision=revision,
            create_pr=create_pr,
        )


def prepare_repo(repo_id: str, folder: str | Path, *, private: bool | None = None, token: str | None = None) -> None:
    """Create a repository and check that the token may write to it, so that a run can be pushed when it is finished.

    Args:
        repo_id: Repository, as in `push_to_hub`.
        folder: Folder of the run, which the error names.

    Raises:
        HubError: If the Hub can't be reached or refuses.
    """
    command = _push_command(folder, repo_id, private)
    fix = f"Fix that, or train without --push_to_hub and push when the run is finished: `{command}`"
    with _explained(f"nothing could be pushed to {repo_id}", repo_id, token, fix):
        api = _client(token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        api.auth_check(repo_id, write=True)  # an existing one may be read-only


def _client(token: str | None) -> HfApi:
    return HfApi(token=token, library_name="hf_icckd", library_version=__version__)


def _check_secrets(files: list[Path], token: str | None) -> None:
    """Raise ValueError if a file holds the token that it would be pushed with."""
    secret = (token or get_token() or "").encode()
    for file in files:
        if secret and file.name != WEIGHTS_FILE and secret in file.read_bytes():
            raise ValueError(f"{file} holds your Hub token, so it is not pushed; remove the token from it")


def _push_command(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> str:
    words = ["hf-icckd", "push", str(folder), "--repo_id", repo_id]
    words += ["--private"] if private else []
    words += ["--revision", revision] if revision else []
    words += ["--commit_message", commit_message] if commit_message else []
    words += ["--create_pr"] if create_pr else []
    return shlex.join(words)


@contextlib.contextmanager
def _explained(what: str, repo_id: str, token: str | None, fix: str) -> Iterator[None]:
    """Turn whatever the Hub client raises into a HubError of one line."""
    try:
        yield
    except Exception as error:  # the Hub client raises many types, and hides some within others
        status, said = _answer(error)
        if status is not None:
            reason, passing = _reason(status, said, repo_id, token), status in _PASSING
        else:
            cause = error.__cause__ if isinstance(error.__cause__, HTTPError) else error
            reason, passing = f"{type(cause).__name__}: {_one_line(cause)}", isinstance(cause, HTTPError)
            if passing:
                reason = f"the connection to the Hub failed ({reason})"
        if isinstance(error, RuntimeError) and error.__cause__ is not None:  # names the file that was being sent
            reason = f"{_one_line(error)}: {reason}"
        raise HubError(what, reason, fix, passing) from error


def _answer(error: BaseException | None) -> tuple[int | None, str]:
    """Status and text of the HTTP response in an error or its causes; None if there is no response."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            said = _one_line(getattr(error, "server_message", None) or response.reason_phrase)
            seconds = response.headers.get("Retry-After")
            return response.status_code, said + (f", asks to wait {seconds} s" if seconds else "")
        error = error.__cause__
    return None, ""


def _reason(status: int, said: str, repo_id: str, token: str | None) -> str:
    answer = f"the Hub answers {status} ({said})"
    if status == 401:
        what = "it does not know the token" if token or get_token() else "there is no token here"
        return f"{answer}: {what}; log in with `hf auth login`, or set HF_TOKEN to a token with write access"
    if status == 403:
        return f"{answer}: the token may not write to {repo_id}; take one that may, or another repository"
    if status == 404:
        return f"{answer}: check the namespace and name of {repo_id}, the revision, and what the token may see"
    if status in (409, 412):
        return f"{answer}: {repo_id} was changed by someone else in the meantime"
    if status == 429:
        return f"{answer}: too many requests, and the client has given up; wait before you try again"
    if status >= 500:
        return f"{answer}: an error on its side, and the client has given up; wait before you try again"
    return answer


def _one_line(text: object) -> str:
    line = " ".join(re.sub("<[^>]*>", " ", str(text)).split()).rstrip(".")  # storage answers in XML
    return line if len(line) <= 300 else f"{line[:300]}..."
