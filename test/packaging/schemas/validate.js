// Validates manifests against the schemas of Kubernetes (package.json says which version).
// Standard input: a JSON array of manifests. Standard output: for each one an array of complaints.
// A field that the schema never looks at is none of Kubernetes, and a complaint as well.
"use strict";

const modules = {
  v1: require("kubernetes-models/v1"),
  "apps/v1": require("kubernetes-models/apps/v1"),
  "networking.k8s.io/v1": require("kubernetes-models/networking.k8s.io/v1"),
  "policy/v1": require("kubernetes-models/policy/v1"),
  "monitoring.coreos.com/v1":
    require("@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"),
};

// A view of `value` that notes in `seen` which fields have been read, as paths.
function watched(value, path, seen) {
  if (typeof value !== "object" || value === null) return value;
  return new Proxy(value, {
    get(target, key) {
      const field = target[key];
      if (typeof key !== "string" || !Object.hasOwn(target, key)) return field;
      seen.add(`${path}/${key}`);
      return watched(field, `${path}/${key}`, seen);
    },
  });
}

function unseen(value, path, seen) {
  if (typeof value !== "object" || value === null) return [];
  return Object.keys(value).flatMap((key) => {
    const field = `${path}/${key}`;
    return seen.has(field)
      ? unseen(value[key], field, seen)
      : [`${field}: Kubernetes knows no such field`];
  });
}

function complaints(manifest) {
  const Model = modules[manifest.apiVersion]?.[manifest.kind];
  if (!Model) return [`unknown kind ${manifest.apiVersion} ${manifest.kind}`];
  try {
    new Model(structuredClone(manifest)).validate();
  } catch (error) {
    return [error.message];
  }
  const seen = new Set();
  Model.prototype.validate.call(watched(manifest, "", seen));
  return unseen(manifest, "", seen);
}

const chunks = [];
process.stdin.on("data", (chunk) => chunks.push(chunk));
process.stdin.on("end", () => {
  const manifests = JSON.parse(Buffer.concat(chunks).toString());
  process.stdout.write(JSON.stringify(manifests.map(complaints)));
});
