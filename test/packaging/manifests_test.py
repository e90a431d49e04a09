"""packaging/kubernetes: the manifests against Kubernetes' own schemas, the rules of Pod Security,
each other, and the program.
"""

import copy
import json
import pathlib
import shutil
import tomllib

import kustomize
import pytest
from conftest import PACKAGING

from support import images, server

FOLDER = PACKAGING / "kubernetes"
KUSTOMIZATIONS = sorted(
    str(path.parent.relative_to(FOLDER)) for path in FOLDER.rglob("kustomization.yaml")
)
SCHEMAS = pathlib.Path(__file__).parent / "schemas"


@pytest.fixture(params=KUSTOMIZATIONS)
def manifests(request):
    return kustomize.render(FOLDER / request.param)


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """complaints(manifests): for each manifest a list of what is wrong with it."""
    folder = tmp_path_factory.mktemp("schemas")
    for path in SCHEMAS.iterdir():
        shutil.copy(path, folder)
    images.command(
        "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder, timeout=120
    )
    return lambda manifests: json.loads(
        images.command("node", folder / "validate.js", input=json.dumps(manifests))
    )


def test_there_are_kustomizations_for_every_purpose():
    assert KUSTOMIZATIONS == [
        "server/base",
        "server/overlays/monitoring",
        "server/overlays/tls",
        "sidecar/base",
        "sidecar/overlays/block",
    ]


def test_every_manifest_is_valid_for_kubernetes(complaints):
    for name in KUSTOMIZATIONS:
        manifests = kustomize.render(FOLDER / name)
        for manifest, wrong in zip(manifests, complaints(manifests)):
            assert wrong == [], f"{name}: {manifest['kind']} {manifest['metadata']['name']}"


# Mistakes in the sidecar's pod that must be found.
BROKEN = {
    "unknown field": lambda pod: pod["spec"].update(terminationGrace=5),
    "unknown field of a container": lambda pod: pod["spec"]["containers"][0].update(vollumes=[]),
    "misspelt probe": lambda pod: pod["spec"]["initContainers"][1]["startupProbe"].update(sec=1),
    "text for a number": lambda pod: pod["spec"].update(terminationGracePeriodSeconds="60"),
    "number for a text": lambda pod: pod["spec"]["containers"][0].update(image=5),
    "no name": lambda pod: pod["spec"]["containers"][0].pop("name"),
    "text for a list": lambda pod: pod["spec"]["containers"][0].update(command="sleep"),
    "no containers": lambda pod: pod["spec"].pop("containers"),
    "unknown kind": lambda pod: pod.update(kind="Pot"),
}


def test_a_manifest_that_is_broken_is_found(complaints):
    (pod,) = [m for m in kustomize.render(FOLDER / "sidecar/base") if m["kind"] == "Pod"]
    broken = []
    for change in BROKEN.values():
        broken.append(copy.deepcopy(pod))
        change(broken[-1])
    found = complaints(broken)
    assert [name for name, wrong in zip(BROKEN, found) if not wrong] == []
    assert complaints([pod]) == [[]]


def violations(pod):
    """The rules of the Pod Security level "restricted" that a pod breaks."""
    found = []
    security = pod.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            found.append(key)
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}:
            found.append(f"volume {volume['name']}")
    for container in kustomize.containers_of(pod):
        own = container.get("securityContext", {})
        merged = {**security, **own}
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            found.append("privileges")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or "add" in own["capabilities"]:
            found.append("capabilities")
        if merged.get("runAsNonRoot") is not True or merged.get("runAsUser") == 0:
            found.append("root")
        if merged.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            found.append("seccomp")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append("writable root file system")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append("host port")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            found.append("no memory limit")
    return found


def test_every_pod_keeps_to_restricted_pod_security(manifests):
    pods = kustomize.pod_specs(manifests)
    assert pods
    for pod in pods:
        assert violations(pod) == []


def test_a_violation_of_pod_security_is_found():
    (pod,) = kustomize.pod_specs(kustomize.render(FOLDER / "sidecar/base"))
    for change, expected in (
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
        (lambda pod: pod["volumes"].append({"name": "x", "hostPath": {}}), "volume x"),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "root"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "seccomp"),
        (lambda pod: pod["containers"][0].pop("securityContext"), "privileges"),
        (lambda pod: pod["initContainers"][1].pop("resources"), "no memory limit"),
    ):
        changed = copy.deepcopy(pod)
        change(changed)
        assert expected in violations(changed)


def test_what_the_manifests_refer_to_is_there(manifests):
    named = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    for pod in kustomize.pod_specs(manifests):
        templates = [
            claim["metadata"]["name"]
            for m in manifests
            if m["kind"] == "StatefulSet"
            for claim in m["spec"]["volumeClaimTemplates"]
        ]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in named
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in named
        for container in kustomize.containers_of(pod):
            for mount in container.get("volumeMounts", []) + container.get("volumeDevices", []):
                assert mount["name"] in [*volumes, *templates]
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in ports


def test_the_server_is_drained_before_it_is_stopped(manifests):
    for stateful_set in [m for m in manifests if m["kind"] == "StatefulSet"]:
        pod = stateful_set["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command == ["/usr/bin/loopnbd", "ctl", "drain"]
        (configuration,) = [m for m in manifests if m["kind"] == "ConfigMap"]
        told = tomllib.loads(configuration["data"]["loopnbd.toml"])["control"]["socket"]
        assert f"={told}\n" in server.run("ctl", "--help").stdout, "not the default of ctl"
        (mount,) = [m for m in container["volumeMounts"] if told.startswith(m["mountPath"] + "/")]
        assert not mount.get("readOnly")
        (volume,) = [v for v in pod["volumes"] if v["name"] == mount["name"]]
        assert "emptyDir" in volume
        # drain_deadline of server/config/bounds.h, and as much again for the last sync.
        assert pod["terminationGracePeriodSeconds"] >= 40


def test_services_budgets_and_policies_select_the_pods(manifests):
    for stateful_set in [m for m in manifests if m["kind"] == "StatefulSet"]:
        labels = stateful_set["spec"]["template"]["metadata"]["labels"]
        assert stateful_set["spec"]["selector"]["matchLabels"] == labels
        for manifest in manifests:
            spec = manifest.get("spec", {})
            if manifest["kind"] == "Service":
                assert spec["selector"] == labels and spec["clusterIP"] == "None"
                assert manifest["metadata"]["name"] == stateful_set["spec"]["serviceName"]
            if manifest["kind"] in ("PodDisruptionBudget", "ServiceMonitor"):
                assert spec["selector"]["matchLabels"] == labels
            if manifest["kind"] == "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"] == labels


def test_the_program_accepts_the_configurations(manifests, tmp_path):
    """With paths of this machine in the place of those in the pod."""
    image = images.make_sparse_image(tmp_path / "disk.img", images.MIB)
    certificate, key = make_certificate(tmp_path)
    for config_map in [m for m in manifests if m["kind"] == "ConfigMap"]:
        config = tomllib.loads(config_map["data"]["loopnbd.toml"])
        text = config_map["data"]["loopnbd.toml"]
        for entry in config["export"]:
            text = text.replace(entry["path"], str(image))
        for place, path in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", certificate)):
            text = text.replace(f"/etc/loopnbd-tls/{place}", str(path))
        path = tmp_path / "loopnbd.toml"
        path.write_text(text)
        result = server.run("check-config", path)
        assert result.returncode == 0, result.stderr


def make_certificate(folder):
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    images.command(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", "/CN=test", "-out", certificate, "-keyout", key),
    )
    return certificate, key
