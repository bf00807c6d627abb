"""What listens where notify_url leads to: it takes notices, and answers as the test wants."""

import http.server
import threading


class Receiver(http.server.ThreadingHTTPServer):
    """Takes notices on loopback, and answers as the test wants."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.headers, self.drips, self.hangs = 200, {}, False, False
        self.got = []  # (method and path, headers, body)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def url(self, path="/mail-gateway", credentials=""):
        return f"http://{credentials}127.0.0.1:{self.server_address[1]}{path}"

    def close(self):
        self.over.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((f"POST {self.path}", dict(self.headers), body))
        if self.server.hangs:
            self.server.over.wait(60)
            return
        if self.server.drips:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.server.over.wait(0.01):
                self.wfile.write(b"x")
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"a text that nobody reads")

    def log_message(self, *arguments):
        pass
