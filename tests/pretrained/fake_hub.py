"""A Hugging Face hub on this machine, which huggingface_hub's own client talks to."""

import contextlib
import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclasses.dataclass
class FakeHub:
    """repositories: {ORG/NAME: {file: bytes}}, of one commit each; gated: those of them refused.

    revisions: names of that commit. asked: the files whose bytes somebody asked for.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ("main", "v1", "refs/pr/3")
    broken: bool = False
    asked: list[str] = dataclasses.field(default_factory=list)
    address: str = ""

    def commit(self, repository: str) -> str:
        """The commit that a repository is at."""
        return hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) for a path of the hub's, as huggingface.co answers."""
        if self.broken:
            return 503, {}, b""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        files, commit = self.repositories[repository], self.commit(repository)
        revision = rest[1] if rest else "main"
        if revision not in (*self.revisions, commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if api and rest[:1] == ["tree"]:
            listed = [_entry(name, content) for name, content in files.items()]
            return 200, {"Content-Type": "application/json"}, json.dumps(listed).encode()
        if api:
            siblings = [{"rfilename": name} for name in files]
            info = {"id": repository, "sha": commit, "siblings": siblings, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        content = files["/".join(rest[2:])]
        headers = {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": commit}
        return 200, headers, content


def _digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}


@contextlib.contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves a hub at `hub.address` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._send(with_body=False)

        def do_GET(self) -> None:
            self._send(with_body=True)

        def _send(self, with_body: bool) -> None:
            path = urlsplit(self.path).path
            status, headers, body = hub.answer(path)
            if with_body and not path.startswith("/api/"):
                hub.asked.append(path.split("/", 5)[-1])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *what: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
