"""Fixtures of the chart's tests: helm, run without privileges and, but for a fake Kubernetes, without a network."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "packaging/helm/jupyterhub-openssh"
HUB = "https://hub.example.org"


class Strict(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML's readers keep the last without a word."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{node.start_mark}: twice: {twice}")
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(text):
    """The documents of a YAML text, empty ones left out."""
    return [one for one in yaml.load_all(text, Strict) if one]


class Helm:
    """Runs helm on the chart."""

    def __init__(self, directory):
        self.directory = directory
        # A copy, as helm runs as nobody.
        shutil.copytree(CHART, directory / "chart")
        shutil.copy(os.environ["HELM"], directory / "helm")
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.name == "helm" else 0o644)

    def run(self, *arguments, values=None, check=True, online=False):
        """Run helm; CompletedProcess. `values` becomes a file of values."""
        words = [str(self.directory / "helm"), *arguments]
        if values is not None:
            file = self.directory / "values.yaml"
            file.write_text(yaml.safe_dump(values))
            file.chmod(0o644)
            words += ["--values", str(file)]
        alone = [] if online else ["unshare", "--net", "--"]
        done = subprocess.run(
            [*alone, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            timeout=60,
            env={"HOME": str(self.directory / "none"), "PATH": "/usr/bin:/bin"},
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def template(self, values=None, kubernetes="1.32.0"):
        """The rendered objects: (kind, name) → object."""
        done = self.run(
            "template",
            "release",
            str(self.directory / "chart"),
            "--kube-version",
            kubernetes,
            values={"hubUrl": HUB, **(values or {})},
        )
        return {(one["kind"], one["metadata"]["name"]): one for one in documents(done.stdout)}

    def refused(self, values):
        """What helm says to values that it must not take."""
        done = self.run("template", "release", str(self.directory / "chart"), values=values, check=False)
        assert done.returncode, done.stdout
        return done.stderr


@pytest.fixture(scope="session")
def helm():
    # Not pytest's: each of its runs shuts all others' directories to everybody but root.
    with tempfile.TemporaryDirectory() as directory:
        yield Helm(Path(directory))
