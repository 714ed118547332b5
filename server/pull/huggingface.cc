// Hugging Face's hub. Sources: https://huggingface.co/docs/hub/api (GET
// /api/models/{repo}/revision/ {revision}?blobs=true), and huggingface_hub for the names of
// environment variables.
#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "runtime/base/file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/environment.h"
#include "server/pull/listing.h"

namespace trireme::pull {
namespace {

namespace json = boost::json;

std::string Endpoint() {
  std::string endpoint = Environment("HF_ENDPOINT").value_or("https://huggingface.co");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint;
}

// HF_TOKEN, or what `hf auth login` has written. Empty: none.
std::string Token() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (auto token = Environment(name)) return std::string(absl::StripAsciiWhitespace(*token));
  }
  const std::string home = Environment("HF_HOME").value_or(
      Environment("XDG_CACHE_HOME").value_or(HomeFolder() + "/.cache") + "/huggingface");
  const auto file =
      ReadFile(Environment("HF_TOKEN_PATH").value_or(home + "/token"), kMaxSettingsBytes);
  return file.ok() ? std::string(absl::StripAsciiWhitespace(*file)) : "";
}

absl::StatusOr<Auth> MakeAuth(const std::string& endpoint) {
  const std::string token = Token();
  if (token.empty()) return Auth{};
  for (const char c : token) {
    if (c <= 0x20 || c >= 0x7f)
      return absl::InvalidArgumentError("HF_TOKEN has a character that no token has");
  }
  TRIREME_RETURN_IF_ERROR(RefuseInClear(endpoint, "HF_TOKEN", "HF_ENDPOINT"));
  return Auth{{StrCat("Authorization: Bearer ", token)}};
}

std::string DeniedHint(const Source& source, bool has_token) {
  return has_token ? StrCat(
                         "it does not exist, or this HF_TOKEN may not read it: for a gated model, "
                         "accept its licence at the page of ",
                         source.root)
                   : "it does not exist, or is private or gated: set HF_TOKEN to a token that may "
                     "read it";
}

std::string TextOf(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

absl::StatusOr<std::optional<Checksum>> ChecksumOf(const json::object& file) {
  if (const json::value* lfs = file.if_contains("lfs"); lfs != nullptr && lfs->is_object()) {
    TRIREME_ASSIGN_OR_RETURN(
        Checksum sum, MakeChecksum(Checksum::Kind::kSha256, TextOf(lfs->get_object(), "sha256")));
    return std::optional(std::move(sum));
  }
  const std::string blob = TextOf(file, "blobId");
  if (blob.empty()) return std::optional<Checksum>();
  TRIREME_ASSIGN_OR_RETURN(Checksum sum, MakeChecksum(Checksum::Kind::kGitBlob, blob));
  return std::optional(std::move(sum));
}

}  // namespace

absl::StatusOr<Listing> ReadHubListing(const std::string& body, const std::string& endpoint,
                                       const Source& source, const RemoteFile& common) {
  boost::system::error_code error;
  json::monotonic_resource memory;
  const json::value value = json::parse(body, error, &memory, {.max_depth = 32});
  const json::value* siblings =
      !error && value.is_object() ? value.get_object().if_contains("siblings") : nullptr;
  Listing listing;
  if (siblings != nullptr) listing.revision = TextOf(value.get_object(), "sha");
  if (siblings == nullptr || !siblings->is_array() || !IsSafePath(listing.revision) ||
      listing.revision.find('/') != std::string::npos) {
    return absl::FailedPreconditionError(
        StrCat(Origin(endpoint), " does not answer as a Hugging Face hub does"));
  }
  if (siblings->get_array().size() > kMaxListedFiles) {
    return absl::ResourceExhaustedError(StrCat("the repository lists ",
                                               siblings->get_array().size(), " files; at most ",
                                               kMaxListedFiles, " are looked at"));
  }
  for (const json::value& entry : siblings->get_array()) {
    if (!entry.is_object()) continue;
    const json::object& object = entry.get_object();
    RemoteFile file = common;
    file.name = TextOf(object, "rfilename");
    if (!IsSafePath(file.name)) continue;  // ".gitattributes", and what is worse
    if (const json::value* size = object.if_contains("size"); size && size->is_int64())
      file.size_bytes = size->get_int64();
    auto checksum = ChecksumOf(object);
    if (!checksum.ok()) return Annotate(checksum.status(), Printable(file.name));
    file.checksum = *std::move(checksum);
    file.url = StrCat(endpoint, "/", source.root, "/resolve/", UrlEncode(listing.revision), "/",
                      UrlEncodePath(file.name));
    listing.files.push_back(std::move(file));
  }
  return listing;
}

absl::StatusOr<Listing> ListHuggingFace(const Source& source, const ListOptions& options) {
  const std::string endpoint = Endpoint();
  TRIREME_ASSIGN_OR_RETURN(const Auth auth, MakeAuth(endpoint));
  RemoteFile common;
  common.auth = [auth] { return auth; };
  common.denied_hint = DeniedHint(source, !auth.headers.empty());
  Request request;
  request.url = StrCat(endpoint, "/api/models/", source.root, "/revision/",
                       UrlEncode(options.revision), "?blobs=true");
  request.auth = auth;
  request.timeout = options.timeout;
  TRIREME_ASSIGN_OR_RETURN(const Response response,
                           Fetch(request, kMaxListingBytes, options.retries, options.stop));
  if (response.head.status != 200) {
    const int status = response.head.status;
    const bool denied = status == 401 || status == 403 || status == 404;
    return HttpError(status, StrCat(source.root, " at ", Printable(options.revision)),
                     denied ? common.denied_hint : "");
  }
  return ReadHubListing(response.body, endpoint, source, common);
}

}  // namespace trireme::pull
