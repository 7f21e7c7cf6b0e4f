"""Without a network the answer comes at once; with one, and from the cache, models are loaded."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub import constants

from headprobe.errors import HeadprobeError
from headprobe.model import hub
from headprobe.model.adapters import resolve_adapter
from headprobe.model.hub import hub_is_reachable
from headprobe.model.load import CheckpointSource, load_config, load_encoder

COMMIT = "a" * 40
NAME = "somebody/model"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub; no proxy and no earlier answer."""
    hub._accepts.cache_clear()
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


class Answers(BaseHTTPRequestHandler):
    """The Hub's answers for the files of one model."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        content = self.files.get(self.path.removeprefix(f"/{NAME}/resolve/{self._revision}/"))
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header(
                "ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
            )
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path.rsplit("/", 1)[-1], b""))

    @property
    def _revision(self) -> str:
        return COMMIT if COMMIT in self.path else "main"

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def network(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub on this machine that has the tiny checkpoint."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    monkeypatch.setattr(Answers, "files", files)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", here)
        yield
        server.shutdown()


@pytest.mark.parametrize("adapter", [None, "somebody/adapter"])
@pytest.mark.parametrize("gguf", [None, "x.gguf"])
def test_without_a_network_it_fails_at_once(
    no_network: None, adapter: str | None, gguf: str | None
) -> None:
    start = time.monotonic()
    with pytest.raises(HeadprobeError, match=r"the Hub cannot be reached|no such adapter"):
        load_config(resolve_adapter(CheckpointSource(NAME, adapter=adapter, gguf=gguf)))
    assert time.monotonic() - start < 5


def _wait(*_: object, **__: object) -> None:
    time.sleep(1)
    raise TimeoutError


def test_a_network_that_swallows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.1)
    monkeypatch.setattr(socket, "create_connection", _wait)
    start = time.monotonic()
    assert not hub_is_reachable()
    assert time.monotonic() - start < 0.9


def test_a_model_in_the_cache_needs_no_network(
    no_network: None, cache: Path, checkpoint: Path
) -> None:
    folder = cache / "models--somebody--model"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for path in checkpoint.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    start = time.monotonic()
    source = resolve_adapter(CheckpointSource(NAME))
    assert load_config(source).model_type == "llama"
    assert load_encoder(source).start == (1,)
    assert time.monotonic() - start < 5


def test_with_a_network_models_are_downloaded(network: None, cache: Path) -> None:
    assert hub_is_reachable()
    source = resolve_adapter(CheckpointSource(NAME))
    assert load_config(source).model_type == "llama"
    assert (cache / "models--somebody--model" / "snapshots" / COMMIT / "config.json").is_file()


def test_what_decides_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:1"})
    assert hub_is_reachable()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub_is_reachable()
