"""A hub on 127.0.0.1: as much of the Hugging Face hub as publishing to it and fetching from it takes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class FakeHub:
    """`files`: repository -> path -> contents."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    def commit_of(self, repository: str) -> str:
        state = sorted((path, hashlib.sha1(body).hexdigest()) for path, body in self.files[repository].items())
        return hashlib.sha1(repr(state).encode()).hexdigest()

    def described(self, repository: str) -> dict[str, Any]:
        siblings = [
            {"rfilename": path, "size": len(body), "blobId": hashlib.sha1(body).hexdigest()}
            for path, body in self.files[repository].items()
        ]
        return {"id": repository, "modelId": repository, "sha": self.commit_of(repository), "siblings": siblings,
                "private": False, "tags": [], "downloads": 0, "likes": 0}  # fmt: skip

    def commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                self.files[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])


@contextmanager
def running_hub() -> Iterator[tuple[FakeHub, str]]:
    """The hub and its address."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, body: object, status: int = 200) -> None:
            self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _nothing(self) -> None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"POST {path}")
            words = path.strip("/").split("/")
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'me'}/{asked['name']}"
                hub.files.setdefault(name, {})
                self._json({"url": f"http://{self.headers['Host']}/{name}", "name": name, "id": name})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif words[:2] == ["api", "models"] and "/".join(words[2:4]) in hub.files:
                self._of_model("/".join(words[2:4]), words[4], body)
            else:
                self._nothing()

        def _of_model(self, repository: str, action: str, body: bytes) -> None:
            if action == "preupload":
                paths = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self._json({"files": files})
            elif action == "commit":
                hub.commit(repository, [json.loads(line) for line in body.splitlines() if line])
                sha = hub.commit_of(repository)
                address = f"http://{self.headers['Host']}/{repository}/commit/{sha}"
                self._json({"success": True, "commitOid": sha, "commitUrl": address, "hookOutput": ""})
            else:
                self._nothing()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            words = path.strip("/").split("/")
            if words[:2] == ["api", "models"] and "/".join(words[2:4]) in hub.files:
                repository = "/".join(words[2:4])
                if words[4:5] == ["tree"]:
                    files = hub.files[repository]
                    self._json(
                        [{"type": "file", "path": p, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                         for p, b in files.items()]
                    )  # fmt: skip
                else:
                    self._json(hub.described(repository))
            elif len(words) > 4 and words[2] == "resolve" and words[0] + "/" + words[1] in hub.files:
                repository = "/".join(words[:2])
                body = hub.files[repository].get("/".join(words[4:]))
                if body is None:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                    return
                headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": hub.commit_of(repository)}
                self._send(200, body, headers)
            else:
                self._nothing()

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
