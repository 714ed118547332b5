#!/usr/bin/env python3
"""Writes trireme.json, the Grafana dashboard, from the table of panels below.

    deploy/grafana/make_dashboard.py [OUT]
"""
import json
import pathlib
import sys

ENGINE = '{model_name=~"$model",instance=~"$instance"}'
NODE = '{instance=~"$instance"}'  # metrics of the doors have no model
RATE = "[$__rate_interval]"


def total(metric, by="", labels=ENGINE):
    """Events a second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{labels}{RATE}))"


def gauge(metric):
    return f"sum by (instance) ({metric}{ENGINE})"


def share(part, whole):
    return f"{total(part)} / {total(whole)}"


def mean(histogram):
    return share(f"{histogram}_sum", f"{histogram}_count")


def quantiles(histogram, labels=ENGINE):
    return [(f"p{q}", f"histogram_quantile({q / 100:g}, sum by (le) (rate({histogram}_bucket{labels}{RATE})))")
            for q in (50, 90, 99)]


def labels_with(selector, more):
    return selector[:-1] + "," + more + "}"


# Row -> panels: title, what it tells, unit, queries (legend, PromQL).
ROWS = {
    "Traffic": [
        ("Requests finished", "Engine requests by reason: n=2 counts twice.", "reqps",
         [("{{finished_reason}}", total("trireme_requests_finished_total", "finished_reason"))]),
        ("Tokens", "Prompt tokens computed (without those from the prefix cache) and tokens generated.", "short",
         [("prompt", total("trireme_prompt_tokens_total")), ("generated", total("trireme_generation_tokens_total"))]),
        ("Tokens of a request", "Medians of prompt and answer.", "short",
         [(name, quantiles(f"trireme_request_{part}_tokens")[0][1])
          for name, part in (("prompt", "prompt"), ("generated", "generation"))]),
        ("HTTP requests", "By route.", "reqps",
         [("{{route}}", total("trireme_http_requests_total", "route", NODE))]),
    ],
    "Latency": [
        ("Time to first token", "Arrival to first token.", "s", quantiles("trireme_time_to_first_token_seconds")),
        ("Inter-token latency", "Between tokens of one request.", "s",
         quantiles("trireme_inter_token_latency_seconds")),
        ("End to end", "Arrival to last token.", "s", quantiles("trireme_request_latency_seconds")),
        ("Where a request spends its time", "Means of the three phases.", "s",
         [(phase, mean(f"trireme_request_{phase}_seconds")) for phase in ("queue", "prefill", "decode")]),
    ],
    "Queue": [
        ("Running and waiting", "Sequences that hold KV blocks, and those in the queue.", "short",
         [("running {{instance}}", gauge("trireme_requests_running")),
          ("waiting {{instance}}", gauge("trireme_requests_waiting"))]),
        ("Prompt tokens waiting", "The work in the queue.", "short",
         [("{{instance}}", gauge("trireme_waiting_prompt_tokens"))]),
        ("Time in queue", "Arrival to first step.", "s", quantiles("trireme_request_queue_seconds")),
        ("Admission", "Refused: the queue is full (429) or the node drains (503).", "reqps",
         [("accepted", total("trireme_requests_submitted_total")),
          ("refused", total("trireme_requests_refused_total"))]),
    ],
    "KV cache": [
        ("KV cache in use", "Blocks held by running sequences.", "percentunit",
         [("{{instance}}", f"max by (instance) (trireme_kv_cache_usage_ratio{ENGINE})")]),
        ("KV blocks", "Cached blocks are free for whoever needs them.", "short",
         [("all", f"sum (trireme_kv_blocks{ENGINE})"), ("held", f"sum (trireme_kv_blocks_held{ENGINE})"),
          ("cached", f"sum (trireme_kv_blocks_cached{ENGINE})")]),
        ("Prefix cache hit rate", "Share of prompt tokens that need no computing.", "percentunit",
         [("hit rate", share("trireme_prefix_cache_hit_tokens_total", "trireme_prefix_cache_query_tokens_total"))]),
        ("Preemptions", "Sequences put back for lack of KV blocks; they are computed again.", "short",
         [("{{instance}}", total("trireme_preemptions_total", "instance"))]),
    ],
    "Engine steps": [
        ("Steps", "Engine steps a second.", "short", [("{{instance}}", total("trireme_steps_total", "instance"))]),
        ("Step duration", "One pass of the model.", "s", quantiles("trireme_step_seconds")),
        ("Tokens of a step", "Decode rows and prefill chunks together.", "short", quantiles("trireme_step_tokens")),
        ("Time in steps", "1: the engine never waits for work.", "percentunit",
         [("{{instance}}", total("trireme_step_seconds_sum", "instance"))]),
    ],
    "Errors": [
        ("HTTP errors", "By code; 499: the client went away.", "reqps",
         [("{{code}} {{route}}", total("trireme_http_requests_total", "code, route",
                                       labels_with(NODE, 'code=~"[45].."')))]),
        ("Failed requests", "Engine requests that ended by an error, a deadline or a cancellation.", "reqps",
         [("{{finished_reason}}", total("trireme_requests_finished_total", "finished_reason",
                                        labels_with(ENGINE, 'finished_reason=~"error|timeout|abort"')))]),
        ("Draining", "1 while new requests are refused.", "short",
         [("{{instance}}", f"max by (instance) (trireme_draining{ENGINE})")]),
        ("HTTP connections", "Open now.", "short", [("{{instance}}", f"sum by (instance) (trireme_http_connections{NODE})")]),
    ],
    "gRPC": [
        ("gRPC calls", "By method.", "reqps",
         [("{{method}}", total("trireme_grpc_requests_total", "method", NODE))]),
        ("gRPC errors", "By status.", "reqps",
         [("{{code}} {{method}}", total("trireme_grpc_requests_total", "code, method", labels_with(NODE, 'code!="OK"')))]),
        ("gRPC call duration", "Call start to status sent.", "s", quantiles("trireme_grpc_request_seconds", NODE)),
        ("HTTP request duration", "Request read to answer written.", "s",
         quantiles("trireme_http_request_seconds", NODE)),
    ],
}
COLUMNS, WIDTH, HEIGHT = 4, 6, 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, column, y, title, tells, unit, queries):
    return {
        "id": number, "type": "timeseries", "title": title, "description": tells, "datasource": DATASOURCE,
        "gridPos": {"x": column * WIDTH, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
                        "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
                    for i, (legend, query) in enumerate(queries)],
    }


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": DATASOURCE, "query": query, "refresh": 2,
            "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}


def dashboard():
    panels, y, number = [], 0, 0
    for row, members in ROWS.items():
        number += 1
        panels.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": COLUMNS * WIDTH, "h": 1}})
        y += 1
        for i, member in enumerate(members):
            number += 1
            panels.append(panel(number, i % COLUMNS, y + i // COLUMNS * HEIGHT, *member))
        y += -(-len(members) // COLUMNS) * HEIGHT
    return {
        "uid": "trireme", "title": "Trireme", "tags": ["llm", "inference"], "schemaVersion": 39, "editable": True,
        "refresh": "15s", "time": {"from": "now-1h", "to": "now"}, "graphTooltip": 1,
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
            variable("model", "Model", "label_values(trireme_requests_running, model_name)"),
            variable("instance", "Node", "label_values(trireme_requests_running, instance)")]},
        "panels": panels,
    }


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("trireme.json")
    out.write_text(json.dumps(dashboard(), indent=1) + "\n")
