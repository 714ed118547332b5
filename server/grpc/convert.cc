#include "server/grpc/convert.h"

#include <utility>

#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/node/client_input.h"

namespace trireme::rpc {
namespace {

void FillSampling(const v1::SamplingParams& proto, SamplingParams* out) {
  if (proto.has_temperature()) out->temperature = proto.temperature();
  if (proto.has_top_p()) out->top_p = proto.top_p();
  if (proto.has_top_k()) out->top_k = proto.top_k();
  if (proto.has_min_p()) out->min_p = proto.min_p();
  if (proto.has_typical_p()) out->typical_p = proto.typical_p();
  if (proto.has_repetition_penalty()) out->repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) out->presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) out->frequency_penalty = proto.frequency_penalty();
  for (const v1::LogitBias& bias : proto.logit_bias())
    out->logit_bias.emplace_back(bias.token_id(), bias.bias());
  if (proto.has_seed()) out->seed = proto.seed();
  if (proto.has_logprobs()) out->logprobs = proto.logprobs();
  out->prompt_logprobs = proto.prompt_logprobs();
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
    case FinishReason::kDeadline:
    case FinishReason::kError:
      break;  // these end the call with a status of their own
  }
  return v1::FINISH_REASON_CANCELLED;
}

void FillLogprob(const TokenText& token, v1::TokenLogprob* out) {
  out->set_token_id(token.id);
  out->set_token(token.bytes);
  out->set_logprob(token.logprob);
  for (size_t i = 0; i < token.top.size(); ++i) {
    v1::TopLogprob* top = out->add_top();
    top->set_token_id(token.top_ids[i]);
    top->set_token(token.top[i].first);
    top->set_logprob(token.top[i].second);
  }
}

}  // namespace

absl::StatusOr<ChatPrompt> ToChatPrompt(const v1::Chat& proto) {
  ChatPrompt chat;
  if (proto.messages().empty())
    return InvalidParam("chat.messages", "chat.messages must not be empty", "empty_array");
  for (int i = 0; i < proto.messages_size(); ++i) {
    const v1::ChatMessage& message = proto.messages(i);
    TRIREME_ASSIGN_OR_RETURN(std::string role,
                             TemplateRole(message.role(), StrCat("chat.messages[", i, "].role")));
    boost::json::object object = {{"role", std::move(role)}, {"content", message.content()}};
    if (!message.name().empty()) object["name"] = message.name();
    chat.messages.push_back(std::move(object));
  }
  if (!proto.template_kwargs_json().empty()) {
    absl::StatusOr<boost::json::object> kwargs = ParseJsonObject(proto.template_kwargs_json());
    if (!kwargs.ok()) {
      return InvalidParam(
          "chat.template_kwargs_json",
          StrCat("chat.template_kwargs_json could not be parsed: ", kwargs.status().message()));
    }
    chat.template_kwargs = *std::move(kwargs);
  }
  chat.continue_final_message = proto.continue_final_message();
  chat.add_generation_prompt = !proto.no_generation_prompt() && !chat.continue_final_message;
  return chat;
}

absl::StatusOr<TextRequest> ToTextRequest(const v1::GenerateRequest& proto, const Node& node) {
  TextRequest request;
  request.model = proto.model().empty() ? node.info.id : proto.model();
  switch (proto.input_case()) {
    case v1::GenerateRequest::kPrompt:
      request.input = std::vector<TextPrompt>{proto.prompt()};
      break;
    case v1::GenerateRequest::kTokenIds:
      request.input = std::vector<TextPrompt>{
          std::vector<TokenId>(proto.token_ids().ids().begin(), proto.token_ids().ids().end())};
      break;
    case v1::GenerateRequest::kChat: {
      TRIREME_ASSIGN_OR_RETURN(request.input, ToChatPrompt(proto.chat()));
      break;
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      return InvalidParam("input", "one of prompt, token_ids and chat is needed");
  }
  request.base.external_id = proto.request_id();
  request.base.sampling = node.default_sampling;
  FillSampling(proto.sampling(), &request.base.sampling);
  if (proto.has_max_tokens()) request.base.max_tokens = proto.max_tokens();
  request.base.min_tokens = proto.min_tokens();
  request.base.ignore_eos = proto.ignore_eos();
  request.base.stop_token_ids.assign(proto.stop_token_ids().begin(), proto.stop_token_ids().end());
  request.base.priority = proto.priority();
  request.stop.assign(proto.stop().begin(), proto.stop().end());
  request.include_stop_in_output = proto.include_stop_in_output();
  request.skip_special_tokens = !proto.keep_special_tokens();
  request.n = proto.n() == 0 ? 1 : proto.n();
  if (proto.has_best_of()) request.best_of = proto.best_of();
  request.echo = proto.echo();
  return request;
}

absl::Status InWireTerms(absl::Status status, v1::GenerateRequest::InputCase input) {
  const std::string param = ErrorParam(status);
  if (input == v1::GenerateRequest::kTokenIds && param == "prompt") {
    return RenameParam(std::move(status), "token_ids");
  }
  const bool of_chat = param.starts_with("messages") || param == "continue_final_message";
  if (input == v1::GenerateRequest::kChat && of_chat) {
    return RenameParam(std::move(status), StrCat("chat.", param));
  }
  if (param == "chat_template_kwargs") {
    return RenameParam(std::move(status), "chat.template_kwargs_json");
  }
  return status;
}

void FillDelta(const ChoiceDelta& delta, std::string_view request_id, v1::GenerateResponse* out) {
  out->Clear();
  out->mutable_request_id()->assign(request_id);
  out->set_index(delta.index);
  out->set_text(delta.text);
  out->mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const TokenText& token : delta.tokens) FillLogprob(token, out->add_logprobs());
  for (const TokenText& token : delta.prompt_tokens) FillLogprob(token, out->add_prompt_logprobs());
  out->set_finish_reason(ToProto(delta.finish));
  out->set_matched_stop(delta.matched_stop);
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  // The two enumerations have the same values by design.
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

}  // namespace trireme::rpc
