"""The soak, shortened to fit the suite: soak.py runs it for as long as one likes."""
import soak


def test_twenty_seconds_of_churn_leave_everything_flat(binary, stubs, tmp_path):
    rule_p = soak.guarded_server(binary, tmp_path, stubs)
    report = soak.soak(rule_p, seconds=20)
    rule_p.close()
    rule_p.server.stop()
    assert report["verdict"] == "pass", report["failures"]
    assert len(report["requests"]) == 6 and min(report["requests"].values()) > 20, report["requests"]


def test_a_leak_is_seen():
    samples = [{"seconds": i, "rss_bytes": (100 << 20) + i * (1 << 20)} for i in range(100)]
    assert soak.growth(samples) > soak.MAX_GROWTH
