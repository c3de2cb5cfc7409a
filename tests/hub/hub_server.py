"""A server on this machine that speaks as much of the Hub's interface as its client uses for models; with faults."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER = "hf_writer-of-the-tests", "hf_reader-of-the-tests"
CUT, LOST, GARBLED = "cut", "lost", "garbled"  # connection cut within the request, before the answer; another content
NAMESPACES = ("me", "us")

_REPO, _REF = r"(?P<repo>[^/]+/[^/]+?)", r"(?P<ref>[^/]+)"
_ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"/api/models/{_REPO}/auth-check/write", "check"),
    ("POST", rf"/api/models/{_REPO}/branch/{_REF}", "branch"),
    ("POST", rf"/api/models/{_REPO}/preupload/{_REF}", "preupload"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]{{64}})", "upload"),
    ("POST", rf"/lfs/{_REPO}/verify", "verify"),
    ("POST", rf"/api/models/{_REPO}/commit/{_REF}", "commit"),
    ("GET", rf"/api/models/{_REPO}(/revision/{_REF})?", "info"),
    ("GET", rf"/api/models/{_REPO}/tree/{_REF}", "tree"),
    ("GET", rf"/{_REPO}/resolve/{_REF}/(?P<file>.+)", "resolve"),
]
_WRITES = ("create", "check", "branch", "preupload", "batch", "commit")
_SAID = {
    401: "Invalid credentials in Authorization header",
    403: "You don't have the rights to do this",
    404: "There is nothing of this name",
    409: "Another commit is in progress",
    429: "We had to rate limit you",
    500: "Internal Error",
}


@dataclass
class Commit:
    """One commit: its message, the files it brought, and all files behind it."""

    oid: str
    message: str
    changed: list[str]
    files: dict[str, bytes]


@dataclass
class Repo:
    """Branches (and pull requests) as lists of commits, newest last."""

    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": [Commit("0" * 40, "initial", [], {})]})

    @property
    def commits(self) -> list[Commit]:
        """Commits to main, without the empty one that a new repository begins with."""
        return self.branches["main"][1:]

    def at(self, ref: str) -> Commit | None:
        """The commit that a branch or a hash stands for."""
        if ref in self.branches:
            return self.branches[ref][-1]
        return next((commit for branch in self.branches.values() for commit in branch if commit.oid == ref), None)


class HubServer(ThreadingHTTPServer):
    """The server and what it holds; `faults[repo, operation]` lists what to do in place of answering, one a request.

    A fault is a status, a status with headers, one of CUT, LOST and GARBLED, or a function to call before the answer.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.faults: dict[tuple[str, str], list] = {}
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()

    def handle_error(self, request, client_address):
        """Clients that are gone are part of the tests; anything else is said."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def environment(self, home: Path, token: str | None = WRITER) -> dict[str, str]:
        """Environment of a program that is to take this server for the Hub."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_HUB", "HF_TOKEN"))}
        return kept | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HOME": str(home),
            "NO_PROXY": "127.0.0.1",
            **({} if token is None else {"HF_TOKEN": token}),
        }


@contextlib.contextmanager
def serve() -> Iterator[HubServer]:
    """The server, answering while the context lasts."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Answer(Exception):
    def __init__(self, status: int, said: str = "", code: str | None = None, headers: dict[str, str] | None = None):
        self.status, self.said = status, said or _SAID.get(status, "no")
        self.headers = (headers or {}) | ({"X-Error-Code": code} if code else {}) | {"X-Error-Message": self.said}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        operation, parts = self._route(url.path)
        self.content = self._body() if operation == "create" else b""
        if self.content:
            asked = json.loads(self.content)
            parts = {"repo": f"{asked['organization'] or 'me'}/{asked['name']}", "asked": asked}
        repo_id = parts.get("repo", "")
        with self.server.lock:
            self.server.requests.append((operation, repo_id))
            faults = self.server.faults.get((repo_id, operation), [])
            fault = faults.pop(0) if faults else None
        if fault == CUT:
            self.rfile.read(0 if self.content else int(self.headers.get("Content-Length", 0)) // 2)
            self._hang_up()
            return
        self.content = self.content or self._body()
        if fault == GARBLED:
            self.content = bytes([self.content[0] ^ 1]) + self.content[1:]
        if callable(fault):
            fault()
        try:
            if isinstance(fault, int):
                raise _Answer(fault)
            if isinstance(fault, tuple):
                raise _Answer(fault[0], headers=fault[1])
            self._authorise(operation, repo_id)
            with self.server.lock:
                status, content, headers = getattr(self, f"_{operation}")(**parts)
        except _Answer as answer:
            status, content, headers = answer.status, {"error": answer.said}, answer.headers
        if fault == LOST:
            self._hang_up()
            return
        self._send(status, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self, path: str) -> tuple[str, dict]:
        method = "GET" if self.command == "HEAD" else self.command
        for expected, pattern, operation in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == expected:
                return operation, {name: unquote(part) for name, part in found.groupdict().items() if part is not None}
        return "unknown", {}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    # ---- who may do what

    def _authorise(self, operation: str, repo_id: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if operation in _WRITES:
            if token not in (WRITER, READER):
                raise _Answer(401, "" if token else "Invalid username or password.")
            if repo_id.split("/")[0] not in NAMESPACES:
                raise _Answer(404)
            if token == READER:
                raise _Answer(403)
        repo = self.server.repos.get(repo_id)
        if operation not in ("create", "validate", "unknown") and (repo is None or (repo.private and not token)):
            raise _Answer(404 if token else 401, "Repository not found", "RepoNotFound")

    def _commit_of(self, repo: str, ref: str) -> Commit:
        commit = self.server.repos[repo].at(ref)
        if commit is None:
            raise _Answer(404, f"Invalid rev id: {ref}", "RevisionNotFound")
        return commit

    # ---- operations: status, content, headers

    def _unknown(self):
        raise _Answer(404)

    def _create(self, repo: str, asked: dict):
        known = repo in self.server.repos
        self.server.repos.setdefault(
            repo, Repo(private=asked.get("visibility") == "private" or asked.get("private", False))
        )
        content = {"url": f"{self.server.endpoint}/{repo}", "name": repo}
        return (409, {"error": "You already created this model repo", **content}, {}) if known else (200, content, {})

    def _validate(self):
        metadata = json.loads(self.content)["content"]
        errors = [] if metadata.startswith("---\n") else [{"message": "no metadata"}]
        return 400 if errors else 200, {"errors": errors, "warnings": []}, {}

    def _check(self, repo: str):
        return 200, {}, {}

    def _branch(self, repo: str, ref: str):
        branches = self.server.repos[repo].branches
        if ref in branches:
            raise _Answer(409, "Reference already exists")
        branches[ref] = list(branches["main"])
        return 200, {}, {}

    def _preupload(self, repo: str, ref: str):
        there = self._commit_of(repo, ref).files
        files = []
        for asked in json.loads(self.content)["files"]:
            name = asked["path"]
            known = {"oid": _oid(name, there[name])} if name in there else {}
            mode = "lfs" if _is_large(name) else "regular"
            files.append({"path": name, "uploadMode": mode, "shouldIgnore": False, **known})
        return 200, {"files": files}, {}

    def _batch(self, repo: str):
        objects = []
        for asked in json.loads(self.content)["objects"]:
            address = f"{self.server.endpoint}/lfs/{repo}"
            actions = {"upload": {"href": f"{address}/{asked['oid']}"}, "verify": {"href": f"{address}/verify"}}
            known = asked["oid"] in self.server.stored
            objects.append({"oid": asked["oid"], "size": asked["size"], **({} if known else {"actions": actions})})
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _upload(self, repo: str, oid: str):
        if hashlib.sha256(self.content).hexdigest() != oid:
            said = (
                "<Error><Code>BadDigest</Code><Message>The sha256 is not that of what we received.</Message></Error>"
            )
            return 400, said.encode(), {"Content-Type": "application/xml"}
        self.server.stored[oid] = self.content
        return 200, b"", {}

    def _verify(self, repo: str):
        asked = json.loads(self.content)
        if len(self.server.stored.get(asked["oid"], b"")) != asked["size"]:
            raise _Answer(422, "The object is not what was announced")
        return 200, {}, {}

    def _commit(self, repo: str, ref: str):
        header, *operations = (json.loads(line) for line in self.content.splitlines())
        files, changed = dict(self._commit_of(repo, ref).files), []
        for operation in operations:
            value = operation["value"]
            changed.append(value["path"])
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile" and value["oid"] in self.server.stored:
                files[value["path"]] = self.server.stored[value["oid"]]
            else:
                raise _Answer(400, f"{operation['key']} {value['path']} points to nothing that was uploaded")
        branches = self.server.repos[repo].branches
        pull = f"refs/pr/{len(branches)}" if "create_pr" in self.query else None
        branch = branches.setdefault(pull or ref, list(branches[ref]))
        oid = hashlib.sha1(self.content + branch[-1].oid.encode()).hexdigest()
        branch.append(Commit(oid, header["value"]["summary"], sorted(changed), files))
        page = f"{self.server.endpoint}/{repo}"
        content = {"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}", "hookOutput": ""}
        number = pull and pull.rpartition("/")[2]
        return 200, content | ({"pullRequestUrl": f"{page}/discussions/{number}"} if pull else {}), {}

    def _info(self, repo: str, ref: str = "main"):
        commit = self._commit_of(repo, ref)
        names = [{"rfilename": name} for name in commit.files]
        return 200, {"id": repo, "sha": commit.oid, "private": self.server.repos[repo].private, "siblings": names}, {}

    def _tree(self, repo: str, ref: str):
        entries = []
        for name, content in self._commit_of(repo, ref).files.items():
            large = {"lfs": {"oid": _oid(name, content), "size": len(content), "pointerSize": 130}}
            blob = {"type": "file", "path": name, "size": len(content), "oid": _oid("", content)}
            entries.append(blob | (large if _is_large(name) else {}))
        return 200, entries, {}

    def _resolve(self, repo: str, ref: str, file: str):
        commit = self._commit_of(repo, ref)
        headers = {"X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream"}
        if file not in commit.files:
            raise _Answer(404, "Entry not found", "EntryNotFound", headers)
        content = commit.files[file]
        etag = f'"{_oid(file, content)}"'
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))} if _is_large(file) else {}
        return 200, content, headers | {"ETag": etag} | linked


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".png"))


def _oid(name: str, content: bytes) -> str:
    """What the Hub tells a file by: SHA-256 of a large one, git's hash of any other."""
    if _is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
