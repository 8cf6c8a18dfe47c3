"""As much of a Kubernetes API as Helm needs to install a chart: objects are taken as they come, and kept."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

#: Kinds by group version: (plural, kind).
KINDS = {
    "v1": [("secrets", "Secret"), ("services", "Service"), ("configmaps", "ConfigMap")],
    "apps/v1": [("deployments", "Deployment")],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy")],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget")],
}


class Cluster:
    """A server on loopback; `objects` maps the path of each object to it."""

    def __init__(self):
        self.objects = {}
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def body(self):
                return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self):
                path, _, query = self.path.partition("?")
                found = cluster.get(path, dict(parse_qsl(query)).get("labelSelector", ""))
                self.answer(200, found) if found else self.answer(
                    404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
                )

            def do_POST(self):
                new = self.body()
                cluster.objects[f"{self.path.split('?')[0]}/{new['metadata']['name']}"] = new
                self.answer(201, new)

            def do_PUT(self):
                cluster.objects[self.path.split("?")[0]] = new = self.body()
                self.answer(200, new)

            def do_DELETE(self):
                cluster.objects.pop(self.path.split("?")[0], None)
                self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

            def do_PATCH(self):
                changed = merged(cluster.objects[self.path.split("?")[0]], self.body())
                cluster.objects[self.path.split("?")[0]] = changed
                self.answer(200, changed)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path, selector):
        """What is at a path, of a list what has the labels; None where there is nothing."""
        if path in self.objects:
            return self.objects[path]
        if path == "/version":
            return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {
                        "name": one.split("/")[0],
                        "versions": [{"groupVersion": one, "version": "v1"}],
                        "preferredVersion": {"groupVersion": one, "version": "v1"},
                    }
                    for one in KINDS
                    if "/" in one
                ],
            }
        for version, kinds in KINDS.items():
            if path == (f"/apis/{version}" if "/" in version else f"/api/{version}"):
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": version,
                    "resources": [
                        {
                            "name": plural,
                            "singularName": "",
                            "namespaced": True,
                            "kind": kind,
                            "verbs": ["get", "list", "create", "patch", "update", "delete"],
                        }
                        for plural, kind in kinds
                    ],
                }
        if path.endswith("/secrets"):
            return {
                "kind": "SecretList",
                "apiVersion": "v1",
                "metadata": {},
                "items": [
                    one
                    for at, one in self.objects.items()
                    if at.startswith(f"{path}/")
                    and dict(parse_qsl(selector, separator=",")).items() <= one["metadata"]["labels"].items()
                ],
            }
        return None

    def close(self):
        """End the server."""
        self.server.shutdown()
        self.server.server_close()


def merged(old, patch):
    """A JSON merge patch (RFC 7396) applied; for what a chart changes of a Secret the strategic one is the same."""
    if not isinstance(old, dict) or not isinstance(patch, dict):
        return patch
    new = {**old, **{key: merged(old.get(key), value) for key, value in patch.items() if value is not None}}
    return {key: value for key, value in new.items() if not (key in patch and patch[key] is None)}
