#!/usr/bin/env python3
"""Writes dashboards/*.json for Grafana from the panels below.

Without arguments it writes; with --check it says whether what is there is what it would write. A test
calls that, and asks a real Prometheus every query: each has to return data.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 12, 8, 2

# What stands in every selector, so that other jobs with a metric of the same name do not show.
JOB = 'job="twinkeep"'
# Outcomes that a caller cannot mend; the same as in rules.yml.
FAULTS = "UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|DATA_LOSS|UNKNOWN"
RATE = "[$__rate_interval]"


def metric(name, *matchers):
    """A selector of one of our metrics."""
    return f"twinkeep_{name}{{{', '.join((JOB, *matchers))}}}"


def rate(name, *matchers):
    return f"rate({metric(name, *matchers)}{RATE})"


def quantile(q, name, by):
    return f"histogram_quantile({q}, sum by ({by}, le) ({rate(name + '_bucket')}))"


def mean(name, by):
    return f"sum by ({by}) ({rate(name + '_sum')}) / sum by ({by}) ({rate(name + '_count')})"


def panel(title, unit, *queries, text=""):
    """A graph over time. A query is an expression and the legend of its series."""
    return {"title": title, "unit": unit, "queries": queries, "text": text}


NODE = "{{zone}} {{node}}"

DASHBOARDS = {
    "zones": (
        "Zones",
        [
            panel("Nodes that answer", "short",
                  (f"sum by (zone) (up{{{JOB}}})", "{{zone}}")),
            panel("Nodes that hear a leader", "short",
                  (f"sum by (zone) ({metric('raft_has_leader')})", "{{zone}}")),
            panel("Who leads", "short", (metric("raft_is_leader"), NODE)),
            panel("Calls", "ops",
                  ("sum by (zone) (node:twinkeep_api_operations:rate1m)", "{{zone}}")),
            panel("Calls that failed by no fault of the caller", "ops",
                  (f"sum by (zone, outcome) ({rate('api_operations_total', f'outcome=~{json.dumps(FAULTS)}')})",
                   "{{zone}} {{outcome}}")),
            panel("Entries behind the newest commit", "short",
                  (f"scalar(max({metric('raft_committed_index')})) - {metric('raft_applied_index')}", NODE),
                  text="What a node has not applied yet; a sealed node applies too."),
            panel("Sealed nodes", "short",
                  (f"sum by (zone) ({metric('server_is_sealed')})", "{{zone}}")),
            panel("Time until certificates end", "s",
                  (metric("server_certificate_left_seconds"), "{{node}} {{certificate}}")),
            panel("Versions", "short",
                  (f"count by (version) ({metric('server_build_info')})", "{{version}}")),
            panel("Running since", "s",
                  (f"time() - {metric('server_start_time_seconds')}", NODE)),
        ],
    ),
    "crypto": (
        "Crypto",
        [
            panel("Operations", "ops",
                  (f"sum by (operation) ({rate('api_operations_total')})", "{{operation}}")),
            panel("Operations by instance type", "ops",
                  (f"sum by (instance_type) ({rate('api_operations_total')})", "{{instance_type}}")),
            panel("Refusals and failures", "ops",
                  (f"sum by (operation, outcome) ({rate('api_operations_total', 'outcome!=%s' % json.dumps('OK'))})",
                   "{{operation}} {{outcome}}")),
            panel("Share that failed by no fault of the caller", "percentunit",
                  ("node:twinkeep_api_faults:rate1m / node:twinkeep_api_operations:rate1m", NODE)),
            panel("Half of the calls end within", "s",
                  (quantile(0.5, "api_operation_seconds", "operation"), "{{operation}}")),
            panel("99 of 100 calls end within", "s",
                  (quantile(0.99, "api_operation_seconds", "operation"), "{{operation}}"),
                  ("operation:twinkeep_api_operation_seconds:p99_1m", "{{operation}}, one minute")),
            panel("Calls under way", "short", (metric("api_in_flight_operations"), NODE)),
            panel("Items of a batch, mean", "short",
                  (mean("api_batch_items", "operation"), "{{operation}}")),
            panel("Lookups that a cache answered", "percentunit",
                  (f"sum by (cache) ({rate('api_cache_hits_total')}) / (sum by (cache) ({rate('api_cache_hits_total')})"
                   f" + sum by (cache) ({rate('api_cache_misses_total')}))", "{{cache}}")),
            panel("Entries of caches", "short",
                  (f"sum by (node, cache) ({metric('api_cache_entries')})", "{{node}} {{cache}}")),
            panel("Entries that caches gave up", "ops",
                  (f"sum by (cache) ({rate('api_cache_evictions_total')})", "{{cache}}")),
            panel("Crypto streams and their messages", "short",
                  (metric("api_open_streams"), "{{node}} streams"),
                  (metric("api_in_flight_messages"), "{{node}} messages")),
        ],
    ),
    "raft": (
        "Raft",
        [
            panel("Who leads", "short", (metric("raft_is_leader"), NODE)),
            panel("Term", "short", (metric("raft_term"), NODE)),
            panel("Elections in ten minutes", "short",
                  (f"increase({metric('raft_elections_total')}[10m])", NODE)),
            panel("Changes of the leader in ten minutes", "short",
                  (f"increase({metric('raft_leader_changes_total')}[10m])", NODE)),
            panel("Entries committed", "ops",
                  (f"rate({metric('raft_committed_index')}{RATE})", NODE)),
            panel("Entries behind the leader", "short",
                  (metric("raft_peer_lag_entries"), "node {{peer}}"),
                  text="As the leader knows it, by node id."),
            panel("Silence of peers", "s",
                  (metric("raft_peer_silent_seconds"), "node {{peer}}"),
                  text="Time since the leader last heard of them, by node id."),
            panel("Age of the state", "s", (metric("raft_state_age_seconds"), NODE),
                  text="Above 0: the node hears no leader and does not learn what was disabled."),
            panel("Every zone holds what is acknowledged", "short", (metric("raft_is_in_sync"), NODE)),
            panel("99 of 100 changes wait for the zones", "s",
                  (quantile(0.99, "raft_zone_wait_seconds", "zone, node"), NODE),
                  text="From the commit at the leader to the acknowledgement."),
            panel("Changes that wait", "short", (metric("raft_waiting_proposals"), NODE)),
            panel("99 of 100 changes are decided within", "s",
                  (quantile(0.99, "raft_proposal_seconds", "zone, node"), NODE)),
            panel("Changes", "ops",
                  (f"sum by (outcome) ({rate('raft_proposal_seconds_count')})", "{{outcome}}")),
            panel("Log kept", "short",
                  (f"{metric('raft_last_log_index')} - {metric('raft_snapshot_index')}", NODE),
                  text="Entries beyond the newest snapshot."),
            panel("Snapshots", "short",
                  (f"sum by (node, origin) ({metric('raft_snapshots_total')})", "{{node}} {{origin}}")),
            panel("Members", "short", (metric("raft_member_nodes"), NODE)),
        ],
    ),
    "storage": (
        "Storage",
        [
            panel("99 of 100 syncs of the log take", "s",
                  (quantile(0.99, "storage_log_sync_seconds", "zone, node"), NODE)),
            panel("Changes that share a sync, mean", "short",
                  (mean("storage_log_batch_changes", "zone, node"), NODE)),
            panel("Databases on disk", "bytes",
                  (metric("storage_disk_bytes"), "{{node}} {{database}}")),
            panel("Databases in memory", "bytes",
                  (metric("storage_memtable_bytes"), "{{node}} {{database}}"),
                  (metric("storage_block_cache_bytes"), "{{node}} block cache")),
            panel("Newest snapshot", "bytes", (metric("storage_snapshot_bytes"), NODE)),
            panel("Snapshots kept", "short", (metric("storage_kept_snapshots"), NODE)),
            panel("Free room on the data disk", "percentunit",
                  (f"{metric('server_data_free_bytes')} / {metric('server_data_size_bytes')}", NODE)),
            panel("99 of 100 commits of the audit log take", "s",
                  (quantile(0.99, "audit_sync_seconds", "zone, node"), NODE)),
            panel("Audit records", "ops", (rate("audit_records_total"), NODE)),
            panel("Audit log", "Bps", (rate("audit_bytes_total"), NODE)),
            panel("Audit records in a commit, mean", "short",
                  (f"{rate('audit_records_total')} / {rate('audit_commits_total')}", NODE)),
            panel("Audit records that wait", "short", (metric("audit_waiting_records"), NODE)),
            panel("Audit log takes no records", "short", (metric("audit_is_out"), NODE)),
            panel("Audit reserve", "short",
                  (metric("audit_spare_segments"), "{{node}} there"),
                  (metric("audit_missing_segments"), "{{node}} missing")),
            panel("Memory", "bytes", (metric("server_resident_bytes"), NODE)),
            panel("Cores in use", "short", (rate("server_cpu_seconds"), NODE)),
            panel("Open files", "short", (metric("server_open_files"), NODE)),
        ],
    ),
}


def grafana_panel(number, panel):
    row, column = divmod(number, COLUMNS)
    targets = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for place, (expr, legend) in enumerate(panel["queries"])
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel["title"],
        "description": panel["text"],
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def grafana_dashboard(uid, title, panels):
    board = {
        "uid": f"twinkeep-{uid}",
        "title": f"Twinkeep: {title}",
        "tags": ["twinkeep"],
        "timezone": "utc",
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["twinkeep"], "title": "Twinkeep", "asDropdown": False}],
        "schemaVersion": 39,
        "panels": [grafana_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(board, indent=2) + "\n"


def main():
    differs = []
    for uid, (title, panels) in DASHBOARDS.items():
        path, text = FOLDER / f"{uid}.json", grafana_dashboard(uid, title, panels)
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differs.append(path.name)
    if differs:
        sys.exit(f"run deploy/observability/dashboards.py: it writes another {', '.join(differs)}")


main()
