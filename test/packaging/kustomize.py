"""Renders a kustomization as far as packaging/kubernetes uses them: resources, configMapGenerator
(names without hashes), images, namespace, and JSON patches with a target. Anything else is refused,
and so is a file that nothing refers to.
"""

import copy
import pathlib

import jsonpatch
import yaml

KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "configMapGenerator",
    "images",
    "patches",
}


def render(folder):
    """The manifests, each a dictionary, that `kubectl apply -k FOLDER` would apply."""
    folder = pathlib.Path(folder)
    kustomization = read_yaml(folder / "kustomization.yaml")[0]
    assert kustomization.keys() <= KNOWN, f"{folder}: unknown keys in kustomization.yaml"
    used = {"kustomization.yaml"}
    manifests = []
    for resource in kustomization["resources"]:
        path = folder / resource
        used.add(resource)
        manifests += render(path) if path.is_dir() else read_yaml(path)
    for generator in kustomization.get("configMapGenerator", []):
        used.update(generator["files"])
        add_config_map(manifests, folder, generator)
    for patch in kustomization.get("patches", []):
        used.add(patch["path"])
        apply_patch(manifests, read_yaml(folder / patch["path"])[0], patch["target"])
    for image in kustomization.get("images", []):
        set_image(manifests, image["name"], f"{image['newName']}:{image['newTag']}")
    if namespace := kustomization.get("namespace"):
        for manifest in manifests:
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = namespace
    unused = {path.name for path in folder.iterdir() if path.is_file()} - used
    assert not unused, f"{folder}: nothing refers to {unused}"
    return manifests


def read_yaml(path):
    return list(yaml.safe_load_all(path.read_text()))


def add_config_map(manifests, folder, generator):
    data = {name: (folder / name).read_text() for name in generator["files"]}
    existing = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"] == generator["name"]
    ]
    assert bool(existing) == (generator.get("behavior") == "replace"), f"{folder}: behavior"
    if existing:
        existing[0]["data"] = data
        return
    manifests.append(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": generator["name"]},
            "data": data,
        }
    )


def apply_patch(manifests, operations, target):
    matching = [
        index
        for index, manifest in enumerate(manifests)
        if manifest["kind"] == target["kind"] and manifest["metadata"]["name"] == target["name"]
    ]
    assert matching, f"no {target} to patch"
    for index in matching:
        manifests[index] = jsonpatch.apply_patch(copy.deepcopy(manifests[index]), operations)


def set_image(manifests, name, image):
    for pod in pod_specs(manifests):
        for container in containers_of(pod):
            if container["image"] == name:
                container["image"] = image


def pod_specs(manifests):
    """The specs of all pods, by themselves or in a template."""
    specs = []
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            specs.append(manifest["spec"])
        elif "template" in manifest.get("spec", {}):
            specs.append(manifest["spec"]["template"]["spec"])
    return specs


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]
