"""The soak, shortened to fit the suite: soak.py runs it for as long as one likes."""
import soak


def test_twenty_seconds_of_churn_leave_everything_flat(binary, stubs, tmp_path):
    rule_p = soak.guarded_server(binary, tmp_path, stubs)
    report = soak.soak(rule_p, seconds=20)
    rule_p.close()
    rule_p.server.stop()
    assert report["verdict"] == "pass", report["failures"]
    assert report["rests"] >= soak.RESTS / 2 and not any(s["running"] for s in report["samples"] if s["idle"])
    assert len(report["requests"]) == 6 and min(report["requests"].values()) > 20, report["requests"]


def test_a_leak_is_seen():
    for seconds, leak, seen in ((600, 8 << 20, True), (600, 4 << 20, False), (20, 8 << 20, True), (600, 0, False)):
        samples = [{"seconds": i * seconds / 100, "rss_bytes": (100 << 20) + i * leak // 100} for i in range(101)]
        rise, allowed = soak.growth(samples)
        assert (rise > allowed) == seen, (seconds, leak)
