#include "server/cli/schema.h"

#include <iterator>
#include <limits>
#include <utility>

#include "server/loadgen/parse.h"

namespace trireme {
namespace {

constexpr unsigned kServe = static_cast<unsigned>(Command::kServe);
constexpr unsigned kGenerate = static_cast<unsigned>(Command::kGenerate);
constexpr unsigned kInspect = static_cast<unsigned>(Command::kInspect);
constexpr unsigned kBench = static_cast<unsigned>(Command::kBench);
constexpr unsigned kAuditVerify = static_cast<unsigned>(Command::kAuditVerify);
constexpr unsigned kDoctor = static_cast<unsigned>(Command::kDoctor);
constexpr unsigned kPull = static_cast<unsigned>(Command::kPull);
constexpr unsigned kCompletion = static_cast<unsigned>(Command::kCompletion);
constexpr unsigned kRun = kServe | kGenerate;         // those that load the weights
constexpr unsigned kAll = kRun | kInspect | kDoctor;  // those that know a model

void Append(std::vector<Setting> rows, std::vector<Setting>* out) {
  out->insert(out->end(), std::make_move_iterator(rows.begin()),
              std::make_move_iterator(rows.end()));
}

std::vector<Setting> ModelRows(LoadOptions& o) {
  return {
      {"model", kAll, "Model", Text(&o.model, "PATH"),
       "Directory with config.json and *.safetensors (Hugging Face), a .gguf file, or what was "
       "pulled: hf://ORG/NAME",
       /*shorthand=*/"", /*positional=*/true},
      {"served-model-name", kServe, "Model", TextList(&o.served_names, "NAME"),
       "Name clients send as `model`; repeat for aliases (default: from the path)"},
      {"chat-template", kAll, "Model", Text(&o.chat_template_file, "FILE"),
       "Jinja file used in place of the model's own chat template"},
      {"max-context", kAll, "Model", Integer(&o.max_context_tokens, 0, 1 << 24),
       "Longest prompt plus answer, in tokens (0: what the model was trained for)"},
      {"device", kRun, "Model", OneOf(&o.device, {"auto", "cpu", "cuda"}),
       "Where the model runs; auto is the first GPU, if the machine and this build have one"},
      {"gemm", kRun, "Model", OneOf(&o.gemm, {"own", "cublaslt"}),
       "What multiplies bf16 and f16 weights on GPUs; with cublaslt the words of an answer may "
       "depend on the requests beside it (not batch invariant)"},
      {"tensor-parallel-size", kRun, "Model", Integer(&o.num_ranks, 1, 64),
       "GPUs that share the model, each with a part of every weight; those of all nodes together"},
      {"rank-timeout", kRun, "Model", Integer(&o.rank_timeout_seconds, 1, 3600),
       "Seconds that these GPUs may take for a step before it is given up: one of them hangs"},
      {"threads", kAll, "Model", Integer(&o.num_threads, 0, 1024),
       "Compute threads (0: every core this process may use)"},
      {"kv-cache-memory", kAll, "Model", Bytes(&o.kv_cache_bytes),
       "Memory for the KV cache, e.g. 2GiB (default: room for 32 full contexts, at most half of "
       "what is free)"},
      {"kv-cache-dtype", kAll, "Model", OneOf(&o.kv_cache_dtype, {"auto", "f32", "f16", "bf16"}),
       "Type of the KV cache; auto is f16 (f32 for f32 models)"},
  };
}

std::vector<Setting> NodeRows(RankGroupOptions& o) {
  return {
      {"nnodes", kServe, "Nodes", Integer(&o.num_nodes, 0, 64),
       "Machines that share the model, each with a process of its own (0: what LeaderWorkerSet or "
       "Slurm say, where --tensor-parallel-size is more than 1; else 1)"},
      {"node-rank", kServe, "Nodes", Integer(&o.node_rank, -1, 63),
       "Which of them this is: 0 leads and answers requests (-1: as above)"},
      {"leader", kServe, "Nodes", Text(&o.leader, "HOST[:PORT]"),
       "Where node 0 listens for the others (port 8002 if not given); anything but loopback needs "
       "the certificates"},
      {"ranks-cert", kServe, "Nodes", Text(&o.cert_file, "FILE"),
       "PEM certificate that this node shows the others; the leader's names its address"},
      {"ranks-key", kServe, "Nodes", Text(&o.key_file, "FILE"), "PEM private key of --ranks-cert"},
      {"ranks-ca", kServe, "Nodes", Text(&o.ca_file, "FILE"),
       "PEM certificate of the authority that the other nodes' certificates must be of"},
  };
}

std::vector<Setting> NetworkRows(ServeOptions& o) {
  return {
      {"host", kServe | kDoctor, "Network", Text(&o.host, "ADDRESS"),
       "Address to listen on; anything but loopback needs --api-keys"},
      {"http-port", kServe | kDoctor, "Network", Integer(&o.http_port, 0, 65535),
       "HTTP port (0: any free one)"},
      {"grpc-port", kServe | kDoctor, "Network", Integer(&o.grpc_port, -1, 65535),
       "gRPC port (0: any free one, -1: no gRPC)"},
      {"io-threads", kServe, "Network", Integer(&o.io_threads, 1, 64),
       "Threads that read and write sockets"},
      {"max-connections", kServe | kDoctor, "Network", Integer(&o.max_connections, 1, 1 << 20),
       "Open HTTP connections; further ones wait to be accepted"},
      {"max-body", kServe, "Network", Bytes(&o.max_body_bytes), "Largest request body"},
      {"page", kServe, "Network", Switch(&o.page),
       "The built-in page at / (chat, live view); needs no key, what it calls does"},
      {"api-keys", kServe | kDoctor, "Security", Text(&o.api_keys_file, "FILE"),
       "File of API keys, one a line: KEY or sha256:HEX, then optionally a tenant name, then "
       "optionally the word priority (may go before other tenants); reloaded on change"},
      {"tls-cert", kServe | kDoctor, "Security", Text(&o.tls_cert_file, "FILE"),
       "PEM certificate chain: HTTP and gRPC speak TLS; needs --tls-key"},
      {"tls-key", kServe | kDoctor, "Security", Text(&o.tls_key_file, "FILE"),
       "PEM private key of --tls-cert"},
  };
}

std::vector<Setting> ObservabilityRows(ServeOptions& o) {
  return {
      {"access-log", kServe, "Observability", Text(&o.access_log, "FILE"),
       "One JSON line for each request (-: standard output); SIGHUP opens the file anew"},
      {"audit-log", kServe, "Observability", Text(&o.audit_log, "FILE"),
       "Hash chain of logins refused, key reloads, requests; check it with `trireme audit-verify`; "
       "SIGHUP opens the file anew"},
      {"trace-file", kServe, "Observability", Text(&o.trace_file, "FILE"),
       "Engine steps and requests for ui.perfetto.dev or chrome://tracing"},
      {"otlp-endpoint", kServe, "Observability", Text(&o.otlp_endpoint, "URL"),
       "OTLP/HTTP collector for traces, like http://127.0.0.1:4318 (default: what the OTEL_* "
       "variables say)"},
      {"otlp-sample-ratio", kServe, "Observability", Number(&o.otlp_sample_ratio, 0, 1),
       "Share of traces that begin here and are exported (default: what OTEL_TRACES_SAMPLER says, "
       "or "
       "all); a caller's decision is followed"},
  };
}

std::vector<Setting> AuditRows(AuditOptions& o) {
  return {
      {"audit-log", kAuditVerify, "Audit", TextList(&o.files, "FILE"),
       "Audit log; of a rotated one every file, oldest first",
       /*shorthand=*/"", /*positional=*/true},
      {"last-hash", kAuditVerify, "Audit", Text(&o.last_hash, "HEX"),
       "Hash of the last record, kept elsewhere (the process log names it): shows a rewritten file "
       "or a missing end"},
  };
}

std::vector<Setting> SchedulingRows(SchedulerOptions& o) {
  return {
      {"block-size", kAll, "Scheduling", OneOf(&o.block_size, {8, 16, 32, 64}),
       "Tokens of one KV block"},
      {"max-running", kServe | kInspect | kDoctor, "Scheduling", Integer(&o.max_running, 1, 65536),
       "Sequences that generate at the same time"},
      {"max-step-tokens", kServe | kInspect | kDoctor, "Scheduling",
       Integer(&o.max_step_tokens, 1, 1 << 20),
       "Tokens of one engine step, decode and prefill together"},
      {"max-prefill-chunk", kServe, "Scheduling", Integer(&o.max_prefill_chunk, 0, 1 << 20),
       "Tokens of one prompt in one step, and of all prompts beside running streams: lower keeps "
       "these smoother (0: 128 on the CPU, the whole step on GPUs)"},
      {"max-waiting", kServe, "Scheduling", Integer(&o.max_waiting_requests, 1, 1 << 20),
       "Requests that may wait; more are refused with 429"},
      {"max-waiting-tokens", kServe, "Scheduling",
       Integer(&o.max_waiting_prompt_tokens, 1, int64_t{1} << 40),
       "Prompt tokens that may wait; more are refused with 429"},
      {"prefix-cache", kServe, "Scheduling", Switch(&o.prefix_cache),
       "Reuse the KV cache of equal prompt beginnings"},
  };
}

std::vector<Setting> GenerationRows(GenerateOptions& o) {
  return {
      {"prompt", kGenerate, "Generation", Text(&o.prompt, "TEXT"),
       "The user's message (default, and \"-\": standard input, less a final line break)", "-p"},
      {"raw", kGenerate, "Generation", Switch(&o.raw),
       "Continue the prompt as it is, without the chat template"},
      {"system", kGenerate, "Generation", Text(&o.system, "TEXT"), "System message"},
      {"max-tokens", kGenerate, "Generation", Integer(&o.max_tokens, 1, 1 << 24),
       "Longest answer, in tokens"},
      {"temperature", kGenerate, "Generation", Number(&o.temperature, 0, kMaxTemperature),
       "0 is greedy (default: the model's)"},
      {"top-p", kGenerate, "Generation", Number(&o.top_p, 0, 1),
       "Nucleus sampling (default: the model's)"},
      {"top-k", kGenerate, "Generation", Integer(&o.top_k, 0, std::numeric_limits<int>::max()),
       "Sample from the k best; 0: from all (default: the model's)"},
      {"seed", kGenerate, "Generation", WholeNumber(&o.seed), "Same seed, same answer"},
      {"stop", kGenerate, "Generation", TextList(&o.stop, "TEXT"),
       "Stop at this text; repeat for more"},
  };
}

std::vector<Setting> PullRows(pull::PullOptions& o) {
  return {
      {"source", kPull, "Source", Text(&o.source, "URL"),
       "hf://ORG/NAME[@REVISION][/FILE], s3://BUCKET/KEY-OR-PREFIX or https://HOST/PATH",
       /*shorthand=*/"", /*positional=*/true},
      {"revision", kPull, "Source", Text(&o.revision, "NAME"),
       "Branch, tag or commit of a Hugging Face repository (default: that of SOURCE, else main)"},
      {"sha256", kPull, "Source", Text(&o.sha256, "HEX"),
       "What the file's SHA-256 must be, where SOURCE names one file"},
      {"output", kPull, "Source", Text(&o.output, "FOLDER"),
       "Where the files go (default: a folder of the cache)"},
      {"jobs", kPull, "Transfer", Integer(&o.jobs, 1, 64), "Connections at the same time"},
      {"retries", kPull, "Transfer", Integer(&o.retries, 0, 100),
       "Attempts after one that failed and brought nothing, with growing pauses"},
      {"timeout", kPull, "Transfer",
       Parsed(&o.timeout, "TIME", absl::FormatDuration(o.timeout), loadgen::ParseTime),
       "Without a byte, until a connection is given up"},
      {"offline", kPull, "Transfer", Switch(&o.offline),
       "Ask nothing of the network: only say whether the model is there (also HF_HUB_OFFLINE=1)"},
  };
}

std::vector<Setting> OtherRows(Options& o) {
  return {
      {"bandwidth", kInspect, "Output", Number(&o.inspect.bandwidth_gb_s, 0.001f, 1e6f, "GB/S"),
       "Memory bandwidth that ceilings are computed with (default: measured, one second)"},
      {"metadata", kInspect, "Output", Switch(&o.inspect.metadata),
       "Every metadata entry and tensor of the file too"},
      {"json", kGenerate | kInspect | kDoctor | kPull | kAuditVerify, "Output", Switch(&o.json),
       "JSON for machines: one object (pull: one event a line)"},
      {"shell", kCompletion, "Output", OneOf(&o.shell, {"bash", "zsh", "fish"}), "Which shell's",
       /*shorthand=*/"", /*positional=*/true},
      {"cache", kAll | kPull, "Process", Text(&o.cache, "FOLDER"),
       "Where pulled models are kept (default: trireme in XDG_CACHE_HOME or ~/.cache)"},
      {"weight-cache", kServe, "Process", Text(&o.weight_cache, "off|auto|FOLDER"),
       "Where weights are kept as the CPU computes on them, so that the next start need not pack "
       "them; as large as the model, up to 1.8 times (Q5_K). auto: beside models in --cache, for "
       "no others"},
      {"drain-timeout", kServe, "Process", Integer(&o.serve.drain_timeout_s, 0, 86400),
       "Seconds that running requests get after SIGTERM"},
      {"log-level", kServe, "Process",
       OneOf(&o.serve.log_level, {"debug", "info", "warning", "error"}), "What is logged"},
      {"log-format", kServe, "Process", OneOf(&o.serve.log_format, {"text", "json"}),
       "text for people, json for machines"},
      {"config", kAll | kBench | kPull | kAuditVerify, "Process", Text(&o.config_file, "FILE"),
       "YAML file with any of these settings (\"http-port: 9000\")"},
  };
}

}  // namespace

bool Has(const Setting& setting, Command command) {
  return (setting.commands & static_cast<unsigned>(command)) != 0;
}

std::vector<Setting> Schema(Options* options) {
  std::vector<Setting> rows;
  Append(ModelRows(options->load), &rows);
  Append(NodeRows(options->load.group), &rows);
  Append(NetworkRows(options->serve), &rows);
  Append(ObservabilityRows(options->serve), &rows);
  Append(AuditRows(options->audit), &rows);
  Append(SchedulingRows(options->load.scheduler), &rows);
  Append(GenerationRows(options->generate), &rows);
  Append(BenchRows(&options->bench), &rows);
  Append(PullRows(options->pull), &rows);
  Append(OtherRows(*options), &rows);
  return rows;
}

}  // namespace trireme
