"""deploy/grafana, deploy/prometheus: dashboard and alerts against what a running server shows."""
import contextlib
import importlib.util
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from shipped import DEPLOY, free_port, run, traffic


def names_in(query):
    return set(re.findall(r"\b(?:trireme_|vllm:)\w+", query))


def load_dashboard_maker():
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "grafana/make_dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((DEPLOY / "grafana/trireme.json").read_text())


def queries(dashboard):
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_dashboard_is_what_its_source_makes(dashboard):
    assert dashboard == load_dashboard_maker().dashboard()


def test_dashboard_is_laid_out(dashboard):
    panels = dashboard["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Traffic", "Latency", "Queue", "KV cache", "Engine steps", "Errors", "gRPC"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(x, y) for panel in panels for p in [panel["gridPos"]]
             for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    for title in ("Time to first token", "Inter-token latency", "End to end"):
        panel = next(panel for panel in panels if panel["title"] == title)
        assert [target["legendFormat"] for target in panel["targets"]] == ["p50", "p90", "p99"]


def test_dashboard_uses_metrics_that_exist(dashboard, metrics):
    used = set().union(*(names_in(query) for _, query in queries(dashboard)))
    used |= set().union(*(names_in(v["query"]) for v in dashboard["templating"]["list"]))
    assert len(used) > 20 and used <= metrics, used - metrics


def test_alerts_use_metrics_that_exist(metrics):
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    used = set().union(*(names_in(rule["expr"]) for group in groups for rule in group["rules"]))
    assert len(used) > 10 and used <= metrics, used - metrics


def test_every_alert_has_a_test_that_fires_it():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    assert names == set(re.findall(r'alertname="(\w+)"', (DEPLOY / "prometheus/alerts_test.yaml").read_text()))
    for group in groups:
        for rule in group["rules"]:
            assert rule["for"] and rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"]


def test_alerts_check_and_fire(tool):
    promtool = tool("promtool")
    result = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", cwd=DEPLOY / "prometheus")
    assert result.returncode == 0, result.stdout + result.stderr
    result = run(promtool, "test", "rules", "alerts_test.yaml", cwd=DEPLOY / "prometheus")
    assert result.returncode == 0, result.stdout + result.stderr


def test_metrics_are_well_formed(server, metrics, tool):
    text = server.get("/metrics")[2].decode()
    # promtool keeps colons for recording rules; the vllm: aliases have theirs from the tools that read them.
    own = "".join(line for line in text.splitlines(True) if "vllm:" not in line)
    result = run(tool("promtool"), "check", "metrics", input=own)
    assert result.returncode == 0, result.stdout + result.stderr


@contextlib.contextmanager
def prometheus_of(program, server, folder):
    """A Prometheus that scrapes the server every second; gives query(promql) -> samples."""
    port = free_port()
    (folder / "prometheus.yml").write_text(yaml.safe_dump({
        "scrape_configs": [{"job_name": "trireme", "scrape_interval": "1s",
                            "static_configs": [{"targets": [f"127.0.0.1:{server.http_port}"]}]}],
        "rule_files": [str(DEPLOY / "prometheus/alerts.yaml")]}))
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def query(promql):
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{promql}: {error.read().decode()}") from error

    def answers():  # listening, past its start (503 until then), and with a scrape
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=30).close()
            return bool(query('up{job="trireme"} == 1'))
        return False

    try:
        deadline = time.monotonic() + 60
        while not answers():
            assert process.poll() is None and time.monotonic() < deadline, "Prometheus does not scrape"
            time.sleep(0.2)
        yield query
    finally:
        process.terminate()
        process.wait(30)


def shows(samples):
    return bool(samples) and any(sample["value"][1] != "NaN" for sample in samples)


def test_every_panel_shows_data_of_a_running_server(server, metrics, dashboard, tool, tmp_path):
    values = {"$__rate_interval": "1m", "$model": ".*", "$instance": ".*"}
    with prometheus_of(tool("prometheus"), server, tmp_path) as query:
        traffic(server)
        for title, text in queries(dashboard):
            for name, value in values.items():
                text = text.replace(name, value)
            assert "$" not in text
            # A rate needs a scrape before the traffic and one after it; each kind of traffic may be seen by another.
            deadline = time.monotonic() + 30
            while not shows(query(text)):
                assert time.monotonic() < deadline, f"{title}: {text} shows nothing"
                time.sleep(0.2)
