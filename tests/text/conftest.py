"""A service that speaks the protocol of chat completions, started by the test that asks for it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rankwell.text.encoder import load_encoder
from rankwell.text.items import Items


class Service:
    """Answers with what ``reply`` makes of (number of the request, body): a text, or (status, headers, bytes)."""

    def __init__(self):
        self.bodies, self.headers = [], []
        self.reply = lambda number, _: f"text {number}"
        self.tokens = 10
        self.lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with service.lock:
                    number = len(service.bodies)
                    service.bodies.append(body)
                    service.headers.append(dict(self.headers))
                made = (
                    service.reply(number, body) if self.path == "/v1/chat/completions" else (404, {}, b"no such page")
                )
                status, headers, data = made if isinstance(made, tuple) else (200, {}, service.completion(made))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def completion(self, text):
        said = {
            "choices": [{"message": {"role": "assistant", "content": text}}],
            "usage": {"total_tokens": self.tokens},
        }
        return json.dumps(said).encode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEST_KEY", "sk-secret-42")
    running = Service()
    yield running
    running.close()


@pytest.fixture(scope="session")
def minilm():
    return load_encoder("minilm", device="cpu")


@pytest.fixture
def pots():
    """Twelve items: titles differ, kinds and colours repeat, and every second has no maker."""
    return Items(
        {
            f"i{number}": {
                "title": f"Model {number}",
                "kind": ("kettle", "lamp", "chair")[number % 3],
                "colour": ("red", "blue", "green", "white")[number % 4],
                "maker": "" if number % 2 else f"Maker {number % 3}",
            }
            for number in range(12)
        }
    )
