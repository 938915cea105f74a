"""An allocation webhook: an HTTPS server on loopback that answers as a test tells it, and keeps what it was asked."""

import http.server
import json
import queue
import ssl
import threading

WAIT = 10.0


class Webhook:
    """Use as a context manager. `answers` are given in their order, the last one again and again; each is a status and a body,
    or a function of the request that gives both."""

    def __init__(self, files, *answers, host="localhost"):
        """`files` are chain and key of its certificate, which is for `host`."""
        self.host = host
        self.answers, self.asked = list(answers), queue.Queue()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, query=""):
        return f"https://{self.host}:{self._server.server_port}/api/choose{query}"

    def definition(self, query=""):
        return {"webhookUrl": self.url(query), "apiVersion": "2021-10-01"}

    def next(self):
        """What it was asked next: path with query, and the JSON."""
        return self.asked.get(timeout=WAIT)

    def answer(self, body):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(body) if callable(answer) else answer


def hub(name, **members):
    """The answer that chooses this hub."""
    return 200, {"iotHubHostName": name, **members}


def _handler(webhook):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            assert self.headers["content-type"] == "application/json"
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            webhook.asked.put((self.path, body))
            status, answer = webhook.answer(body)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    return Handler
