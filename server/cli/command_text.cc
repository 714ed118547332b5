#include "server/cli/command_text.h"

namespace trireme {
namespace {

constexpr CommandText kCommands[] = {
    {Command::kServe, "serve", "Serve a model over HTTP and gRPC",
     "Examples:\n"
     "  trireme serve model.gguf\n"
     "  trireme serve ./Llama-3.2-1B-Instruct --served-model-name llama --threads 8\n"
     "  trireme serve model.gguf --host 0.0.0.0 --api-keys keys.txt --tls-cert cert.pem --tls-key "
     "key.pem\n"
     "\nThen: curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' "
     "\\\n"
     "        -d '{\"model\": \"NAME\", \"messages\": [{\"role\": \"user\", \"content\": "
     "\"Hello\"}]}'\n"
     "\nSIGTERM drains: /ready turns 503, running requests finish, exit code 0. A second signal "
     "aborts (3). A lost device ends it with 4, after every request was answered."},
    {Command::kGenerate, "generate", "Answer one prompt and exit",
     "Examples:\n"
     "  trireme generate model.gguf -p 'Why is the sky blue?'\n"
     "  cat notes.txt | trireme generate model.gguf --system 'Summarise.' --max-tokens 200\n"
     "  trireme generate model.gguf --raw -p 'Once upon a time' --temperature 0 --json"},
    {Command::kInspect, "inspect",
     "Check a model and show what it needs: memory, KV blocks, ceilings",
     "Checks every tensor against the architecture without loading the weights. Ceilings are what\n"
     "reading the weights (and the KV cache) once per token allows, for one stream; a model that "
     "fits\n"
     "the caches can be faster.\n\n"
     "Examples:\n"
     "  trireme inspect model.gguf\n"
     "  trireme inspect model.gguf --kv-cache-memory 4GiB --bandwidth 100 --json"},
    {Command::kBench, "bench", "Put a server under load and measure it: OpenAI over HTTP, or gRPC",
     "A closed loop keeps --concurrency requests in flight. An open loop sends --rate requests a\n"
     "second, however slow the answers are; latency counts from the time a request was due, so\n"
     "waiting for a full server or a busy client is never left out. TTFT: to the first token;\n"
     "ITL: from one token event to the next; E2E: to the end. Goodput counts what met the --slo.\n"
     "Percentiles are exact to 0.4 %.\n\n"
     "Examples:\n"
     "  trireme bench --target http://127.0.0.1:8000 --concurrency 8 --requests 200\n"
     "  trireme bench --target grpc://127.0.0.1:8001 --rate 5 --duration 60s --warmup 10 \\\n"
     "      --prompt-tokens lognormal:512:0.6 --output-tokens uniform:64:256 \\\n"
     "      --slo ttft=500ms,itl=50ms --json report.json --plot report.svg\n"
     "  trireme bench --target http://127.0.0.1:8000 --ramp --duration 20s --slo ttft=1s --plot "
     "ramp.png\n"
     "\nExit code: 0 when a request succeeded, 1 when none did or the target cannot be reached, "
     "2 for\nwrong usage, 3 when interrupted."},
    {Command::kDoctor, "doctor", "Check this machine, and a model for it",
     "Looks at the CPU, memory, limits, GPUs, network devices, clock, ports, key files and, when\n"
     "MODEL is given, at the model. Each finding says what was seen, why it matters and which\n"
     "command mends it. Nothing is changed, nothing is asked of the network.\n\n"
     "Examples:\n"
     "  trireme doctor\n"
     "  trireme doctor model.gguf --http-port 9000 --api-keys keys.txt\n"
     "  trireme doctor --json | jq '.findings[] | select(.level == \"error\")'\n"
     "\nExit code: 0 when no finding is an error, 1 when one is, 2 for wrong usage."},
    {Command::kPull, "pull", "Fetch a model: hf://, s3:// or https://",
     "SOURCE is one of\n"
     "  hf://ORG/NAME[@REVISION][/FILE]  Hugging Face: the safetensors, tokenizer and config "
     "files,\n"
     "                                   or the only GGUF, or FILE\n"
     "  s3://BUCKET/KEY, s3://BUCKET/PREFIX/  an object, or the model files below a prefix\n"
     "  https://HOST/PATH                one file\n"
     "The path of the model is printed; every command takes SOURCE as its MODEL from then on,\n"
     "without a network. A fetch that was killed goes on where it was when it is run again.\n"
     "Checksums are verified wherever the source has them. Pickles are never fetched.\n\n"
     "Credentials: HF_TOKEN (or the file that `hf auth login` writes); AWS_ACCESS_KEY_ID and\n"
     "AWS_SECRET_ACCESS_KEY, ~/.aws (AWS_PROFILE), the container's or the instance's role.\n"
     "Elsewhere than at home: HF_ENDPOINT, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION,\n"
     "https_proxy, SSL_CERT_FILE.\n\n"
     "Examples:\n"
     "  trireme pull hf://HuggingFaceTB/SmolLM2-135M-Instruct\n"
     "  trireme pull hf://org/model-GGUF/model.Q4_K_M.gguf --jobs 16\n"
     "  trireme pull s3://my-bucket/models/llama/ --output /models/llama\n"
     "  trireme pull https://example.com/model.gguf --sha256 HEX\n"
     "  trireme serve hf://HuggingFaceTB/SmolLM2-135M-Instruct\n"
     "\nExit code: 0 when the model is there, 1 when not, 2 for wrong usage, 3 when interrupted."},
    {Command::kAuditVerify, "audit-verify", "Check the hash chain of an audit log",
     "Names the first line that was changed, removed, added or torn. A log that was cut off at "
     "the\n"
     "end of a line is seen with --last-hash, or by the chain's lacking \"stop\".\n\n"
     "Examples:\n"
     "  trireme audit-verify audit.log\n"
     "  trireme audit-verify audit.log.2 audit.log.1 audit.log --json\n"
     "\nExit code: 0 when the chain is whole, 1 when not, 2 for wrong usage."},
    {Command::kCompletion, "completion", "Print a shell's completion script",
     "Examples:\n"
     "  source <(trireme completion bash)\n"
     "  trireme completion zsh > ~/.zfunc/_trireme\n"
     "  trireme completion fish > ~/.config/fish/completions/trireme.fish"},
    {Command::kMan, "man", "Print the manual page",
     "Examples:\n"
     "  trireme man | man -l -\n"
     "  trireme man > /usr/local/share/man/man1/trireme.1"},
};

}  // namespace

absl::Span<const CommandText> Commands() { return kCommands; }

}  // namespace trireme
