"""A user's server that is no Jupyter, as dashboards and editors are; runs inside the hub's sandbox.

How it refuses to make a terminal, /mnt/control/USER.json says:
  refusal      the status of its answer to a POST; 302 leads to a login of its own, as does every page then
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

PAGE = b"<!DOCTYPE html><title>Dashboard</title><p>42"
ADDRESS = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
CONTROL = Path(f"/mnt/control/{os.environ['JUPYTERHUB_USER']}.json")


class Dashboard(BaseHTTPRequestHandler):
    """Has a page of its own, whatever it is asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """The page, or the way to the login."""
        self.answer(302 if self.refusal() == 302 and not self.path.endswith("/login") else 200)

    def do_POST(self):
        """The refusal."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(self.refusal())

    def refusal(self):
        """As the test wants it."""
        try:
            return json.loads(CONTROL.read_text()).get("refusal", 405)
        except FileNotFoundError:
            return 405

    def answer(self, status):
        """Send the page with that status."""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{ADDRESS.path}login")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


ThreadingHTTPServer((ADDRESS.hostname, ADDRESS.port), Dashboard).serve_forever()
