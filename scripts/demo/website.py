"""A web server whose log says from which address each request came."""

import hashlib
import http.server
import random
import socket
import threading

PAGE_BYTES = 16 << 20


class Website:
    """Serves one page of fixed random bytes on port 80 of a host, over IPv4 and IPv6."""

    def __init__(self, host):
        self.page = random.Random(1928).randbytes(PAGE_BYTES)
        self.checksum = hashlib.sha256(self.page).hexdigest()
        self._visitors = []
        with host.entered():
            self._server = _Server(self.page, self._visitors)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def take_visitor(self):
        """The address that the last request came from, once; None when there was no request."""
        return self._visitors.pop() if self._visitors else None


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def __init__(self, page, visitors):
        self.page = page
        self.visitors = visitors
        super().__init__(("::", 80), _Handler)

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "website", 80

    def handle_error(self, request, client_address):
        """A client that goes away in mid-page is part of the demo."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.visitors.append(self.client_address[0].removeprefix("::ffff:"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.page)))
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, format, *arguments):
        """The table tells who came; nothing goes to the terminal."""
