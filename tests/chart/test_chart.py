"""The Helm chart: what it renders is what Kubernetes takes, and what our programs and sshd read."""

import base64
import re
import subprocess
import tomllib

import kubernetes_validate
import pytest
from conftest import CHART, HUB, REPOSITORY, documents

from cluster import Cluster

#: Values for as many branches of the templates as there are.
VARIANTS = {
    "plain": {},
    "homes": {"sftp": {"pvc": {"name": "homes", "subPath": "home", "template": "{slug}"}}},
    "files only": {"ssh": {"enabled": False}, "sftp": {"pvc": {"name": "homes"}}},
    "terminals only": {"sftp": {"enabled": False}},
    "all": {
        "hostKey": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
        "serviceToken": "0123456789abcdef",
        "userNamespaces": {"enabled": True},
        "config": {
            "hub": {"start_timeout": 600},
            "files": {"rsync": True},
            "shares": [{"source": "/srv/shared", "path": "/shared", "groups": ['a "b"']}],
        },
        "ssh": {
            "replicaCount": 3,
            "service": {
                "type": "LoadBalancer",
                "loadBalancerIP": "192.0.2.7",
                "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["198.51.100.0/24"],
                "nodePort": 30022,
            },
            "podLabels": {"a": "b"},
            "podAnnotations": {"c": "d"},
            "serviceLabels": {"e": "f"},
            "serviceAnnotations": {"g": "h"},
            "resources": {"requests": {"memory": "64Mi"}},
            "imagePullSecrets": [{"name": "pull"}],
            "nodeSelector": {"i": "j"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "preference": {"matchExpressions": [{"key": "l", "operator": "Exists"}]}}
                    ]
                }
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"a": "b"}},
                }
            ],
            "priorityClassName": "high",
            "networkPolicy": {"ingress": [{"from": [{"podSelector": {}}]}], "egress": [{"to": [{"podSelector": {}}]}]},
        },
        "sftp": {"replicaCount": 2, "pvc": {"name": "homes"}, "service": {"type": "NodePort"}},
    },
    "unprivileged": {"unprivileged": {"enabled": True}},
    "a Secret of one's own": {
        "existingSecret": "mine",
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"},
    },
}


@pytest.fixture(params=VARIANTS)
def values(request):
    return VARIANTS[request.param]


def container(deployment):
    """A deployment's only container."""
    [one] = deployment["spec"]["template"]["spec"]["containers"]
    return one


def config(rendered):
    """The parsed config.toml."""
    return tomllib.loads(rendered["ConfigMap", "jupyterhub-openssh"]["data"]["config.toml"])


@pytest.mark.parametrize("kubernetes", ["1.25.2", "1.29.1", "1.30.0", "1.37.0"])
def test_kubernetes_takes_it(helm, values, kubernetes):
    for one in helm.template(values, kubernetes).values():
        kubernetes_validate.validate(one, kubernetes.rsplit(".", 1)[0], strict=True)


def test_helm_has_nothing_to_complain_of(helm, values):
    done = helm.run("lint", "--strict", str(helm.directory / "chart"), values={"hubUrl": HUB, **values})
    assert "[WARNING]" not in done.stdout and "[ERROR]" not in done.stdout, done.stdout


def test_what_is_installed(helm):
    def names(which, kind):
        return sorted(name for one, name in helm.template(VARIANTS[which]) if one == kind)

    for kind in ("Deployment", "Service", "NetworkPolicy"):
        assert names("plain", kind) == ["jupyterhub-ssh"], "a door for files needs files"
        assert names("homes", kind) == ["jupyterhub-sftp", "jupyterhub-ssh"]
        assert names("files only", kind) == ["jupyterhub-sftp"]
        assert names("terminals only", kind) == ["jupyterhub-ssh"]
    assert names("plain", "PodDisruptionBudget") == []
    assert names("all", "PodDisruptionBudget") == ["jupyterhub-sftp", "jupyterhub-ssh"]
    assert names("a Secret of one's own", "Secret") == []


def test_the_configuration(helm):
    assert config(helm.template()) == {"hub": {"url": HUB}}
    assert config(helm.template(VARIANTS["homes"]))["homes"] == {"root": "/srv/homes", "template": "{slug}"}
    everything = config(helm.template(VARIANTS["all"]))
    assert everything == {
        "hub": {"url": HUB, "start_timeout": 600},
        "files": {"rsync": True},
        "accounts": {"range": [20000, 60000]},
        "homes": {"root": "/srv/homes", "template": "{escaped}"},
        "keys": {"service_token_file": "/etc/jupyterhub-openssh/service-token"},
        "shares": [{"source": "/srv/shared", "path": "/shared", "groups": ['a "b"']}],
    }
    odd = config(
        helm.template(
            {"config": {"hub": {"url": "https://other.example.org"}, "login": {"allow_users": ["<a>&\\\"'\u00e9"]}}}
        )
    )
    assert odd["hub"]["url"] == "https://other.example.org" and odd["login"]["allow_users"] == ["<a>&\\\"'\u00e9"]


def test_tables_and_keys_are_those_that_we_have(helm):
    text = (REPOSITORY / "packaging/config.toml").read_text()
    tables = dict(re.findall(r"(?ms)^(?:# )?\[+(\w+)\]+$(.*?)(?=^(?:# )?\[|\Z)", text))
    for table, keys in config(helm.template(VARIANTS["all"])).items():
        for key in keys[0] if isinstance(keys, list) else keys:
            assert re.search(rf"(?m)^# {key} = ", tables[table]), f"{table}.{key}"


def test_pods_are_not_privileged_and_have_what_the_container_needs(helm, values):
    documented = re.findall(r"(?m)^\| `([A-Z_]+)` \|", (REPOSITORY / "packaging/container/README.md").read_text())
    for (kind, name), one in helm.template(values).items():
        if kind != "Deployment":
            continue
        security = container(one)["securityContext"]
        assert security["privileged"] is False
        if "unprivileged" in values:
            continue
        assert security["capabilities"] == {"drop": ["ALL"], "add": sorted(documented)}
        pod = one["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        mounts = {mount["mountPath"] for mount in container(one)["volumeMounts"]}
        assert ("/etc/ssh/sshd_config.d/49-jupyterhub-files.conf" in mounts) == name.endswith("-sftp")


def test_unprivileged_pods_meet_the_standard_restricted(helm):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, control by control."""
    rendered = helm.template({"unprivileged": {"enabled": True, "uid": 2000}})
    pod = rendered["Deployment", "jupyterhub-ssh"]["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {
        "configMap",
        "emptyDir",
        "secret",
    }
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 2000)
    assert security["seccompProfile"] == security["appArmorProfile"] == {"type": "RuntimeDefault"}
    [one] = pod["containers"]
    assert one["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [port["containerPort"] for port in one["ports"]] == [2222]
    assert config(rendered)["session"] == {"jail": "none"}
    assert config(rendered)["accounts"] == {"uid": "fixed", "fixed": [2000, 100]}
    for more in ({"serviceToken": "x"}, {"sftp": {"pvc": {"enabled": True, "name": "homes"}}}):
        assert "unprivileged pods" in helm.refused({"hubUrl": HUB, "unprivileged": {"enabled": True}, **more})


@pytest.mark.parametrize("kubernetes", ["1.29.1", "1.30.0"])
def test_apparmor_is_told_in_the_words_of_the_version(helm, kubernetes):
    template = helm.template({}, kubernetes)["Deployment", "jupyterhub-ssh"]["spec"]["template"]
    told = [
        template["metadata"]["annotations"].get("container.apparmor.security.beta.kubernetes.io/sshd"),
        template["spec"]["securityContext"].get("appArmorProfile"),
    ]
    assert told == (["unconfined", None] if kubernetes < "1.30" else [None, {"type": "Unconfined"}])


def test_a_host_key_is_made_or_taken(helm, tmp_path):
    made = helm.template()["Secret", "jupyterhub-openssh"]
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert sorted(made["data"]) == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key"]
    # The old OpenSSH of Debian 12 reads only one of them; the image has a newer one.
    key = tmp_path / "key"
    key.write_bytes(base64.b64decode(made["data"]["ssh_host_ecdsa_key"]))
    key.chmod(0o600)
    assert subprocess.run(["ssh-keygen", "-y", "-f", key], capture_output=True, text=True).stdout.startswith("ecdsa")
    taken = helm.template(VARIANTS["all"])["Secret", "jupyterhub-openssh"]
    assert sorted(taken["data"]) == ["service-token", "ssh_host_key"]
    assert base64.b64decode(taken["data"]["ssh_host_key"]).decode() == VARIANTS["all"]["hostKey"] + "\n"


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


def install(helm, cluster, values=None):
    """Installs or upgrades the chart; the data of its Secret."""
    helm.run(
        "upgrade",
        "--install",
        "release",
        str(helm.directory / "chart"),
        "--namespace",
        "jhub",
        "--disable-openapi-validation",
        "--kube-apiserver",
        cluster.url,
        values={"hubUrl": HUB, **(values or {})},
        online=True,
    )
    data = cluster.objects["/api/v1/namespaces/jhub/secrets/jupyterhub-openssh"]["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def test_host_keys_of_the_cluster_are_kept(helm, cluster):
    made = install(helm, cluster)
    assert sorted(made) == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key"]
    assert install(helm, cluster) == made
    assert install(helm, cluster, {"serviceToken": "new"}) == {**made, "service-token": b"new\n"}
    assert install(helm, cluster) == made
    # The release is removed, the Secret stays, and a new release takes it over.
    helm.run("uninstall", "release", "--namespace", "jhub", "--kube-apiserver", cluster.url, online=True)
    assert install(helm, cluster) == made
    # One that is given takes their place.
    assert install(helm, cluster, {"hostKey": "mine\n"}) == {"ssh_host_key": b"mine\n"}


def test_wrong_values_are_refused(helm):
    assert "hubUrl must be set" in helm.refused({})
    for wrong in (
        {"hubUrl": "hub.example.org"},
        {"hubUrl": HUB, "hubURL": HUB},
        {"hubUrl": HUB, "ssh": {"replicas": 2}},
        {"hubUrl": HUB, "sftp": {"pvc": "homes"}},
        {"hubUrl": HUB, "config": {"hub": "x"}},
        {"hubUrl": HUB, "capabilities": ["NET_ADMIN"]},
        {"hubUrl": HUB, "ssh": {"service": {"type": "Local"}}},
    ):
        assert "values don't meet the specifications of the schema" in helm.refused(wrong), wrong


def test_values_of_the_earlier_chart_are_taken(helm):
    # The defaults of its last version, but for the images.
    component = {
        "enabled": True,
        "replicaCount": 1,
        "service": {"type": "ClusterIP", "port": 22},
        "podLabels": {
            "hub.jupyter.org/network-access-hub": "true",
            "hub.jupyter.org/network-access-proxy-http": "true",
        },
        "podAnnotations": {},
        "serviceLabels": {},
        "serviceAnnotations": {},
        "resources": {},
        "imagePullSecrets": [],
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "networkPolicy": {},
    }
    rendered = helm.template(
        {
            "hostKey": "",
            "nameOverride": "",
            "fullnameOverride": "jupyterhub",
            "global": {},
            "ssh": component,
            "sftp": {**component, "pvc": {"enabled": True, "name": "homes"}},
        }
    )
    for name in ("ssh", "sftp"):
        assert rendered["Service", f"jupyterhub-{name}"]["spec"]["ports"][0]["port"] == 22


def test_services_lead_to_the_pods(helm, values):
    rendered = helm.template(values)
    for (kind, name), one in rendered.items():
        selector = {
            "Service": lambda: one["spec"]["selector"],
            "NetworkPolicy": lambda: one["spec"]["podSelector"]["matchLabels"],
            "PodDisruptionBudget": lambda: one["spec"]["selector"]["matchLabels"],
            "Deployment": lambda: one["spec"]["selector"]["matchLabels"],
        }.get(kind)
        if selector:
            template = rendered["Deployment", name]["spec"]["template"]
            assert selector().items() <= template["metadata"]["labels"].items()
        if kind == "Service":
            ports = container(rendered["Deployment", name])["ports"]
            assert one["spec"]["ports"][0]["targetPort"] in [port["name"] for port in ports]


def snippets(file):
    """The YAML of a document's code blocks."""
    return re.findall(r"(?ms)^```yaml\n(.*?)^```", file.read_text())


def test_the_snippet_for_traefik(helm):
    [text] = [one for one in snippets(CHART / "README.md") if "traefik" in one]
    [snippet] = documents(text)
    proxy = snippet["proxy"]
    traefik, extra = proxy["traefik"], proxy["traefik"]["extraStaticConfig"]["entryPoints"]
    containers = {port["name"]: port["containerPort"] for port in traefik["extraPorts"]}
    tcp = traefik["extraDynamicConfig"]["tcp"]
    services = helm.template(VARIANTS["homes"])
    for port in proxy["service"]["extraPorts"]:
        # Way in: the service's port, the pod's, Traefik's entry point, its router, its service, ours.
        assert port["targetPort"] in traefik["networkPolicy"]["allowedIngressPorts"]
        number = containers[port["targetPort"]]
        [entry] = [name for name, one in extra.items() if one["address"] == f":{number}"]
        [router] = [one for one in tcp["routers"].values() if one["entryPoints"] == [entry]]
        [server] = tcp["services"][router["service"]]["loadBalancer"]["servers"]
        name, target = server["address"].split(":")
        service = services["Service", name]["spec"]
        assert service["ports"][0]["port"] == int(target)
        # And both sides' policies let it pass.
        label = services["NetworkPolicy", name]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        assert label.items() <= traefik["labels"].items()
    assert {"http", "https"} <= set(traefik["networkPolicy"]["allowedIngressPorts"])
    assert [port["port"] for port in proxy["service"]["extraPorts"]] == [22, 23]


def test_every_snippet_is_one_document(helm):
    for file in (
        CHART / "README.md",
        REPOSITORY / "docs/installation.md",
        REPOSITORY / "docs/upgrading-from-jupyterhub-ssh.md",
    ):
        for text in snippets(file):
            assert len(documents(text)) == 1, text
