"""Places alerts are sent to, on loopback: a webhook that answers as it is told, and a mail server of a few commands."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """A web server. `status` is what it answers, `hold` keeps answers back until it is set, `posts` what came."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.refuses = ""  # a text it takes nothing with
        self.hold = threading.Event()
        self.hold.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                owner.hold.wait()
                is_refused = owner.status != 200 or (owner.refuses and owner.refuses in body)
                self.send_response(owner.status if not is_refused else max(400, owner.status))
                answer = b'{"ok": true, "result": []}'
                if self.path.startswith("/services/"):
                    answer = b"ok"
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                if not is_refused:
                    owner.posts.append((self.path, json.loads(body)))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def titles(self) -> list[str]:
        """The headlines that came."""
        return [body["title"] for _, body in self.posts]

    def close(self) -> None:
        """End it; whoever waits for an answer gets none."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def open_webhook() -> Iterator[Webhook]:
    """Serve for the length of the block."""
    webhook = Webhook()
    try:
        yield webhook
    finally:
        webhook.close()


class _Mail(socketserver.StreamRequestHandler):
    server: _MailServer

    def handle(self) -> None:
        self._say("220 loopback")
        while line := self.rfile.readline().decode().strip():
            command = line.partition(" ")[0].upper()
            if command == "DATA":
                self._say("354 go on")
                text = ""
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    text += part
                self.server.mails.append(message_from_string(text))
            self._say("221 bye" if command == "QUIT" else "250 ok")
            if command == "QUIT":
                return

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class _MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Mail)
        self.mails: list[Message] = []


@contextmanager
def open_mail_server() -> Iterator[tuple[int, list[Message]]]:
    """Take mail in for the length of the block: its port, and what came."""
    server = _MailServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1], server.mails
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
