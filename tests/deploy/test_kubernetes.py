"""deploy/kubernetes: the manifests, raw and as kustomize builds them, against the program."""
import pathlib
import re
import shutil

import pytest
import yaml
from shipped import DEPLOY, FLUSH_S, UID, run

KUBERNETES = DEPLOY / "kubernetes"


def kustomize(folder):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed (no test needs it: Debian 12 has 1.20, kubernetes-client)")
    result = run(kubectl, "kustomize", folder)
    assert result.returncode == 0, result.stderr
    return {item["kind"]: item for item in yaml.safe_load_all(result.stdout)}


def raw(folder="base"):
    """The files that a kustomization names, before kustomize; by kind."""
    listed = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["resources"]
    return {item["kind"]: item for name in listed for item in yaml.safe_load_all((KUBERNETES / folder / name).read_text())}


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("kustomization.yaml")), ids=lambda p: p.parent.name)
def test_kustomizations_name_files_that_are_there(path):
    content = yaml.safe_load(path.read_text())
    assert content["kind"] in ("Kustomization", "Component")
    listed = content.get("resources", []) + [patch["path"] for patch in content.get("patches", [])]
    assert listed
    for name in listed:
        target = path.parent / name
        assert target.is_file() or (target / "kustomization.yaml").is_file(), name
    others = {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert others <= set(listed), "a file that nothing uses"


def documents(path):
    """Every manifest that a kustomization gives, patches and components included; by kind."""
    content = yaml.safe_load((path / "kustomization.yaml").read_text())
    listed = [name for key in ("resources", "components") for name in content.get(key, [])]
    listed += [patch["path"] for patch in content.get("patches", [])]
    for name in listed:
        if (path / name).is_dir():
            yield from documents((path / name).resolve())
        else:
            yield from yaml.safe_load_all((path / name).read_text())


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("kustomization.yaml")), ids=lambda p: p.parent.name)
def test_manifests_are_whole_without_kubectl(path):
    for item in documents(path.parent):
        assert item["apiVersion"] and item["kind"] and item["metadata"]["name"] in ("trireme", "trireme-group", "trireme-group-http"), item
    content = yaml.safe_load(path.read_text())
    given = [item["kind"] for item in raw_documents(path.parent, "resources")]
    assert len(given) == len(set(given)), "a manifest twice"
    inherited = {item["kind"]: item for name in content.get("resources", []) if (path.parent / name).is_dir()
                 for item in documents((path.parent / name).resolve())}
    for patch in raw_documents(path.parent, "patches"):
        target = inherited[patch["kind"]]  # a patch of nothing is an error of kustomize
        assert patch["apiVersion"] == target["apiVersion"]
        if patch["kind"] == "Deployment":
            assert container_of(patch)["name"] == container_of(target)["name"]
    generators = {generator["name"]: generator for generator in content.get("configMapGenerator", [])}
    for generator in generators.values():
        assert all(re.fullmatch(r"TRIREME_[A-Z_]+=.+", literal) for literal in generator["literals"])
        assert (generator.get("behavior") == "merge") == bool(inherited)
    for image in content.get("images", []):
        assert image["name"] == container_of(raw()["Deployment"])["image"] and image["newTag"] != "latest"


def raw_documents(folder, key):
    """Those of the files that one kustomization names itself."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for entry in content.get(key, []):
        name = entry["path"] if isinstance(entry, dict) else entry
        if (folder / name).is_file():
            yield from yaml.safe_load_all((folder / name).read_text())


def test_references_between_manifests_agree():
    base, content = raw(), yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())
    labels = {name: value for entry in content["labels"] for name, value in entry["pairs"].items()}
    selected = [entry["pairs"] for entry in content["labels"] if entry.get("includeSelectors")]
    assert selected == [{"app.kubernetes.io/name": "trireme"}], "of Deployment and Service, which name no selector"
    pod = base["Deployment"]["spec"]["template"]["spec"]
    for selector in (base["PodDisruptionBudget"]["spec"]["selector"], base["NetworkPolicy"]["spec"]["podSelector"],
                     pod["topologySpreadConstraints"][0]["labelSelector"]):
        assert selector["matchLabels"].items() <= labels.items()
    container = container_of(base["Deployment"])
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in base["Service"]["spec"]["ports"]} <= ports
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} <= ports
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == [
        generator["name"] for generator in content["configMapGenerator"]]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    target = base["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (base["Deployment"]["apiVersion"], "Deployment")
    # What the operator must bring is in the README by name.
    steps = (DEPLOY / "README.md").read_text()
    assert volumes["keys"]["secret"]["secretName"] in steps
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] in steps
    component = KUBERNETES / "components/service-monitor"
    monitor = next(raw_documents(component, "resources"))["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in base["Service"]["spec"]["ports"]}
    assert labels[monitor["jobLabel"]] == "trireme" and monitor["endpoints"][0]["authorization"]["credentials"]["name"] in steps


def container_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def test_pod_is_restricted():
    """Pod Security Standards, level "restricted"."""
    pod, container = raw()["Deployment"]["spec"]["template"]["spec"], container_of(raw()["Deployment"])
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == UID
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} == {"persistentVolumeClaim", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert container["resources"]["requests"] == container["resources"]["limits"]  # Guaranteed


def test_probes_ask_routes_that_answer(server):
    container = container_of(raw()["Deployment"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001}
    for probe, route in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/health")):
        assert container[probe]["httpGet"] == {"path": route, "port": "http"}
        assert server.get(route)[0] == 200
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 600


def settings_of(folder="base"):
    generators = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generators[0]["literals"])


def test_pod_has_time_to_drain():
    pod, container = raw()["Deployment"]["spec"]["template"]["spec"], container_of(raw()["Deployment"])
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = int(settings_of()["TRIREME_DRAIN_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] > pause_s + drain_s + FLUSH_S


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
def test_pod_settings_exist(folder, setting_names):
    assert set(settings_of(folder)) <= setting_names
    container = container_of(raw()["Deployment"])
    assert {variable["name"] for variable in container["env"]} <= setting_names
    # Kubernetes' own TRIREME_PORT and the like must not stand among the settings.
    assert raw()["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(pathlib.Path(settings_of()["TRIREME_MODEL"]).parent) in mounts
    assert str(pathlib.Path(settings_of()["TRIREME_API_KEYS"]).parent) in mounts


def test_network_is_two_ports_in_and_nothing_out():
    policy = raw()["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "trireme"}}  # {} would be every pod
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"] and policy["egress"] == []
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "grpc"]
    assert [port["targetPort"] for port in raw()["Service"]["spec"]["ports"]] == ["http", "grpc"]


def test_autoscaler_and_budget_fit_the_deployment(metrics):
    scaler = raw()["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == raw()["Deployment"]["metadata"]["name"]
    assert "replicas" not in raw()["Deployment"]["spec"]  # every apply would undo the autoscaler
    names = {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]}
    assert names == {"trireme_requests_waiting", "trireme_kv_cache_usage_ratio"} and names <= metrics
    assert raw()["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
def test_kustomize_builds(folder):
    built = kustomize(KUBERNETES / folder)
    assert set(built) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy",
                          "HorizontalPodAutoscaler"}
    pods = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [built["Deployment"]["spec"]["selector"]["matchLabels"], built["Service"]["spec"]["selector"],
                 built["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                 built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    for selector in selectors:
        assert selector and selector.items() <= pods.items()
    config = built["ConfigMap"]["metadata"]["name"]  # carries a hash: a changed setting rolls the pods
    assert container_of(built["Deployment"])["envFrom"] == [{"configMapRef": {"name": config}}]
    assert config != "trireme-settings" and built["ConfigMap"]["data"]["TRIREME_HOST"] == "0.0.0.0"


def test_gpu_overlay_asks_for_a_gpu_and_keeps_the_rest():
    built, base = kustomize(KUBERNETES / "overlays/gpu"), kustomize(KUBERNETES / "base")
    container, plain = container_of(built["Deployment"]), container_of(base["Deployment"])
    for kind in ("requests", "limits"):
        assert container["resources"][kind]["nvidia.com/gpu"] == "1"
    assert container["image"].endswith("-cuda") and not plain["image"].endswith(":latest")
    assert container["securityContext"] == plain["securityContext"]
    assert built["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_service_monitor_component_adds_to_the_base(tmp_path):
    tree = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    (tree / "mine").mkdir()
    (tree / "mine/kustomization.yaml").write_text(
        "resources: [../base]\ncomponents: [../components/service-monitor]\n")
    built = kustomize(tree / "mine")
    monitor = built["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= built["Service"]["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in built["Service"]["spec"]["ports"]]
    # The alerts know the job by this name.
    assert built["Service"]["metadata"]["labels"][monitor["jobLabel"]] == "trireme"
