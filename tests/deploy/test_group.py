"""deploy/kubernetes/group: one model on the GPUs of several pods."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from shipped import FLUSH_S, free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GROUP = ROOT / "deploy/kubernetes/group"
LABELS = {"app.kubernetes.io/name": "trireme-group"}


def manifest(name):
    return yaml.safe_load((GROUP / name).read_text())


def templates():
    group = manifest("leader-worker-set.yaml")["spec"]["leaderWorkerTemplate"]
    return group["leaderTemplate"], group["workerTemplate"]


def settings():
    generator, = manifest("kustomization.yaml")["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


def test_settings_are_those_of_serve_and_paths_are_mounted(setting_names):
    assert set(settings()) <= setting_names, set(settings()) - setting_names
    for template in templates():
        container, = template["spec"]["containers"]
        assert container["args"] == ["serve"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for name in ("MODEL", "RANKS_CERT", "RANKS_KEY", "RANKS_CA", "API_KEYS"):
            assert str(pathlib.Path(settings()[f"TRIREME_{name}"]).parent) in mounted, name
        assert {volume["name"] for volume in template["spec"]["volumes"]} == {
            mount["name"] for mount in container["volumeMounts"]}
        generator, = manifest("kustomization.yaml")["configMapGenerator"]
        assert container["envFrom"] == [{"configMapRef": {"name": generator["name"]}}]


def test_ranks_are_the_gpus_of_the_group():
    size = manifest("leader-worker-set.yaml")["spec"]["leaderWorkerTemplate"]["size"]
    gpus = {int(template["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) for template in templates()}
    assert len(gpus) == 1 and int(settings()["TRIREME_TENSOR_PARALLEL_SIZE"]) == size * gpus.pop()


def test_a_pod_that_dies_takes_its_group_with_it():
    assert manifest("leader-worker-set.yaml")["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_leader_and_workers_differ_in_what_faces_clients_alone():
    leader, worker = templates()
    faces_clients = ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle")
    containers = [dict(template["spec"]["containers"][0]) for template in (leader, worker)]
    assert not {"ports", "readinessProbe"} & set(containers[1])  # workers answer nobody
    for container in containers:
        for key in faces_clients:
            container.pop(key, None)
    # Where the leader listens: its name may not be known yet. Workers look for it by the controller's variable.
    listens = {"name": "TRIREME_LEADER", "value": "0.0.0.0:8002"}
    containers[0]["env"] = [variable for variable in containers[0]["env"] if variable != listens]
    assert len(containers[0]["env"]) == len(leader["spec"]["containers"][0]["env"]) - 1
    assert containers[0] == containers[1]
    assert {**leader["spec"], "containers": 0} == {**worker["spec"], "containers": 0}
    assert leader["metadata"]["labels"] == worker["metadata"]["labels"] == LABELS


def test_workers_outlast_the_leaders_drain():
    drain_s = int(settings()["TRIREME_DRAIN_TIMEOUT"])
    leader, worker = templates()
    pause_s = int(leader["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    graces = [template["spec"]["terminationGracePeriodSeconds"] for template in (leader, worker)]
    leader_done_s = pause_s + drain_s + FLUSH_S
    assert graces[0] > leader_done_s
    follows = (ROOT / "server/cli/follow.cc").read_text()
    worker_goes_on_s = drain_s + int(re.search(r"kLeaderEndTime = (\d+);", follows)[1])
    assert leader_done_s < worker_goes_on_s < graces[1] and "lifecycle" not in worker["spec"]["containers"][0]


def test_a_leader_starts_before_its_name_is_known(binary, model, tmp_path):
    """With the controller's variables: this build ends at the device, behind the address it listens at."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                    "/CN=node", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    leader = next(variable["value"] for variable in templates()[0]["spec"]["containers"][0]["env"]
                  if variable["name"] == "TRIREME_LEADER")

    def refusal(**more):
        environment = {**os.environ, "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "0",
                       "LWS_LEADER_ADDRESS": "trireme-group-0.trireme-group.nowhere.invalid", **more}
        result = subprocess.run([binary, "serve", model, "--device", "cuda", "--tensor-parallel-size", "2",
                                 "--http-port", "0", "--grpc-port", "0", "--ranks-cert", tmp_path / "cert",
                                 "--ranks-key", tmp_path / "key", "--ranks-ca", tmp_path / "cert"],
                                env=environment, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        return result.stderr

    assert "nowhere.invalid:8002: cannot listen there" in refusal()
    assert "cannot listen" not in refusal(TRIREME_LEADER=leader.replace(":8002", f":{free_port()}"))


def test_nothing_has_a_name_of_base():
    names = {}
    for folder in (GROUP, GROUP.parent / "base"):
        names[folder] = {(item["kind"], item["metadata"]["name"]) for file in folder.glob("*.yaml")
                         if file.name != "kustomization.yaml" for item in yaml.safe_load_all(file.read_text())}
    assert not names[GROUP] & names[GROUP.parent / "base"]


def test_requests_reach_leaders_and_pods_of_the_group_each_other():
    service, policy = manifest("service.yaml")["spec"], manifest("network-policy.yaml")["spec"]
    # The label is the controller's; the leader is number 0.
    assert service["selector"] == {**LABELS, "leaderworkerset.sigs.k8s.io/worker-index": "0"}
    # The controller makes a headless Service of the group's name, by which the leader is found.
    assert manifest("service.yaml")["metadata"]["name"] != manifest("leader-worker-set.yaml")["metadata"]["name"]
    ports = {port["name"] for port in templates()[0]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["ports"]} == ports
    assert policy["podSelector"] == {"matchLabels": LABELS}
    peers = [{"podSelector": {"matchLabels": LABELS}}]
    assert [rule.get("from") for rule in policy["ingress"]] == [None, peers]
    assert [rule.get("to") for rule in policy["egress"]] == [peers, None]
    assert {port["port"] for rule in policy["egress"] if "to" not in rule for port in rule["ports"]} == {53}


def test_pods_are_restricted():
    """Pod Security Standards, level "restricted"."""
    for template in templates():
        pod, container = template["spec"], template["spec"]["containers"][0]
        assert pod["securityContext"]["runAsNonRoot"] is True and not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}


def test_kustomize_builds_it():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed (no test needs it)")
    result = subprocess.run([kubectl, "kustomize", GROUP], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    built = {item["kind"]: item for item in yaml.safe_load_all(result.stdout)}
    assert set(built) == {"ConfigMap", "LeaderWorkerSet", "Service", "NetworkPolicy"}
    group = built["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    for role in ("leaderTemplate", "workerTemplate"):
        assert group[role]["spec"]["containers"][0]["image"] == "trireme:0.1.0-cuda"
