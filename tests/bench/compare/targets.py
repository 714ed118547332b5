"""The targets of the table in README.md, by the names of the rows."""
import texts
from rows import Target

TARGETS = {
    "decode, 1 stream, Q4_1": Target(ratio=3, roofline=0.7),
    "decode, 1 stream, Q4_0": Target(ratio=2, roofline=0.7),
    "decode, 1 stream, Q8_0": Target(ratio=2, roofline=0.7),
    "decode, 1 stream, BF16": Target(ratio=1.4, roofline=0.7),
    "prefill 512, Q4_1": Target(ratio=10),
    "prefill 512, Q4_0": Target(ratio=3),
    "prefill 512, Q8_0": Target(ratio=5),
    "prefill 512, BF16": Target(ratio=1.8),
    **{f"matrix products of 512 tokens, {file_type}": Target(roofline=0.6) for file_type in ("Q4_1", "Q4_0", "Q8_0", "BF16")},
    "decode, 32 streams, Q4_0": Target(ratio=4),
    "decode, 32 streams, Q8_0": Target(ratio=5),
    "decode, 32 streams, BF16": Target(ratio=2.5),
    "decode at depth 4096, Q8_0": Target(ratio=2.5),
    "1B-shaped: decode, 1 stream, Q4_0": Target(roofline=0.9),
    "1B-shaped: prefill 512, Q4_0": Target(ratio=3),
    "1B-shaped: decode, 32 streams, Q4_0": Target(ratio=3),
    **{f"perplexity, {file_type}": Target(ratio=0.995) for file_type in ("Q4_1", "Q4_0", "Q8_0", "BF16")},
    "server, 32 chats, output": Target(ratio=5),
    "server, 32 chats, TTFT p50": Target(ratio=5),
    "server, 32 chats, ITL p99": Target(ratio=5),
    "start to first token": Target(at_most=150),
    "start to first token, --weight-cache": Target(at_most=150),
    "memory above weights and KV": Target(at_most=60),
    "stripped binary": Target(at_most=25),
    **{f"tokenizer, {script}": Target(ratio=5 if script == "english" else 1) for script in texts.scripts()},
    # Of host_bench.
    "cpu_per_event_http_256_streams": Target(at_most=8),
    "cpu_per_event_grpc_256_streams": Target(at_most=8),
    "one_token_requests_http": Target(ratio=8),
    "scheduler_step_1000_running_10000_waiting": Target(at_most=30),
}


def target(name):
    return TARGETS.get(name, Target())
