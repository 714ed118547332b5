// Amazon S3 and what speaks like it. Sources: the API reference (ListObjectsV2, HeadObject,
// GetObject, "Checking object integrity"). Requests are signed by libcurl (SigV4).
#include <charconv>
#include <functional>
#include <memory>
#include <pugixml.hpp>
#include <utility>

#include "absl/time/clock.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"
#include "server/pull/aws_credentials.h"
#include "server/pull/environment.h"
#include "server/pull/listing.h"

namespace trireme::pull {
namespace {

constexpr int kMaxPages = 200;  // of 1,000 keys each
constexpr size_t kMaxPageBytes = 8 << 20;
constexpr absl::Duration kRenewBefore = absl::Minutes(5);
// The payload of every request of ours: none.
constexpr char kEmptySha256[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

// One bucket: its address, and who we are there. One thread.
class Bucket {
 public:
  Bucket(std::string name, const ListOptions& options)
      : name_(std::move(name)), options_(options), region_(FindAwsRegion()) {}

  std::string Url(std::string_view key) const {
    const std::string path = UrlEncodePath(key);
    const std::string endpoint = FindS3Endpoint();
    if (!endpoint.empty()) return StrCat(endpoint, "/", name_, "/", path);
    // A dot in the name would not be covered by Amazon's certificate.
    if (name_.find('.') != std::string::npos)
      return StrCat("https://s3.", region_, ".amazonaws.com/", name_, "/", path);
    return StrCat("https://", name_, ".s3.", region_, ".amazonaws.com/", path);
  }

  absl::StatusOr<Auth> MakeAuth() {
    if (!looked_ || (credentials_ && credentials_->expires < absl::Now() + kRenewBefore)) {
      TRIREME_ASSIGN_OR_RETURN(credentials_, FindAwsCredentials(options_.stop));
      looked_ = true;
    }
    if (!credentials_) return Auth{};
    Auth auth = {{StrCat("x-amz-content-sha256: ", kEmptySha256)},
                 StrCat("aws:amz:", region_, ":s3"),
                 StrCat(credentials_->access_key, ":", credentials_->secret_key)};
    if (!credentials_->session_token.empty()) {
      // The keys only sign; this one goes out as it is.
      TRIREME_RETURN_IF_ERROR(RefuseInClear(Url(""), "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"));
      auth.headers.push_back(StrCat("x-amz-security-token: ", credentials_->session_token));
    }
    return auth;
  }

  // `url` is made anew after a bucket of another region has told us which.
  absl::StatusOr<Response> Ask(const std::string& method, const std::function<std::string()>& url,
                               const std::vector<std::string>& headers) {
    for (bool moved = false;; moved = true) {
      TRIREME_ASSIGN_OR_RETURN(Auth auth, MakeAuth());
      const Request request = {url(), method, headers, std::move(auth), options_.timeout};
      TRIREME_ASSIGN_OR_RETURN(Response response,
                               Fetch(request, kMaxPageBytes, options_.retries, options_.stop));
      const std::string region = response.head.Get("x-amz-bucket-region");
      const int status = response.head.status;
      if (moved || region.empty() || region == region_ || (status != 301 && status != 400) ||
          region.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != region.npos) {
        return response;
      }
      region_ = region;
    }
  }

  std::string Hint() const {
    if (!credentials_) {
      return "no credentials were found in the environment (AWS_ACCESS_KEY_ID), ~/.aws, the "
             "container's or the instance's role, so the request went unsigned";
    }
    return StrCat("the credentials of ", credentials_->from,
                  " do not allow it, or bucket or key are misspelt");
  }

 private:
  const std::string name_;
  const ListOptions options_;
  std::string region_;
  bool looked_ = false;
  std::optional<AwsCredentials> credentials_;
};

bool IsDenied(int status) { return status == 401 || status == 403 || status == 404; }

// The MD5 of an object that was stored in one part, which its ETag is then; not with KMS.
std::optional<Checksum> Md5OfTag(std::string_view tag, const ResponseHead& head) {
  if (tag.size() >= 2 && tag.front() == '"') tag = tag.substr(1, tag.size() - 2);
  const std::string encryption = head.Get("x-amz-server-side-encryption");
  if (!encryption.empty() && encryption != "AES256") return std::nullopt;
  if (!head.Get("x-amz-server-side-encryption-customer-algorithm").empty()) return std::nullopt;
  auto checksum = MakeChecksum(Checksum::Kind::kMd5, tag);  // not of "...-5", of five parts
  return checksum.ok() ? std::optional(*std::move(checksum)) : std::nullopt;
}

// Whether its checksums are of the parts' checksums.
bool IsComposite(const ResponseHead& head) {
  return head.Get("x-amz-checksum-type") == "COMPOSITE";
}

// Size and checksum of one object. NOT_FOUND when there is none.
absl::StatusOr<RemoteFile> Head(const std::shared_ptr<Bucket>& bucket, const std::string& key) {
  TRIREME_ASSIGN_OR_RETURN(
      const Response response,
      bucket->Ask("HEAD", [&] { return bucket->Url(key); }, {"x-amz-checksum-mode: ENABLED"}));
  const ResponseHead& head = response.head;
  if (head.status != 200) {
    return HttpError(head.status, Printable(key, 128), IsDenied(head.status) ? bucket->Hint() : "");
  }
  RemoteFile file;
  file.name = std::string(BaseName(key));
  file.url = bucket->Url(key);
  file.auth = [bucket] { return bucket->MakeAuth(); };
  file.denied_hint = bucket->Hint();
  const std::string length = head.Get("content-length");
  const auto [end, error] =
      std::from_chars(length.data(), length.data() + length.size(), file.size_bytes);
  if (error != std::errc() || file.size_bytes < 0)
    return absl::FailedPreconditionError(StrCat(Printable(key, 128), ": its size is not told"));
  // Of an object of several parts, "HASH-5" is no hash of the whole, but CRC-64 always is.
  auto sha256 = ChecksumFromBase64(Checksum::Kind::kSha256, head.Get("x-amz-checksum-sha256"));
  auto crc64 = ChecksumFromBase64(Checksum::Kind::kCrc64Nvme, head.Get("x-amz-checksum-crc64nvme"));
  if (sha256.ok() && !IsComposite(head)) {
    file.checksum = *std::move(sha256);
  } else if (auto md5 = Md5OfTag(head.Get("etag"), head)) {
    file.checksum = *std::move(md5);
  } else if (crc64.ok() && !IsComposite(head)) {
    file.checksum = *std::move(crc64);
  }
  return file;
}

}  // namespace

absl::StatusOr<std::string> ReadS3Page(const std::string& body, std::vector<std::string>* keys) {
  pugi::xml_document document;
  const auto parsed = document.load_buffer(body.data(), body.size());
  const pugi::xml_node root = document.child("ListBucketResult");
  if (!parsed || !root)
    return absl::FailedPreconditionError("the answer is no list of a bucket (ListBucketResult)");
  for (const pugi::xml_node& entry : root.children("Contents")) {
    if (keys->size() >= kMaxListedFiles) {
      return absl::ResourceExhaustedError(
          StrCat("there are more than ", kMaxListedFiles, " objects: name a longer prefix"));
    }
    keys->push_back(entry.child_value("Key"));
  }
  if (std::string_view(root.child_value("IsTruncated")) != "true") return "";
  return root.child_value("NextContinuationToken");
}

namespace {

absl::StatusOr<std::vector<std::string>> Keys(Bucket* bucket, const std::string& prefix) {
  std::vector<std::string> keys;
  std::string token;
  for (int page = 0; page < kMaxPages; ++page) {
    // Parameters in the order that SigV4 signs them in.
    const auto url = [&] {
      return StrCat(
          bucket->Url(""), "?", token.empty() ? "" : "continuation-token=", UrlEncode(token),
          token.empty() ? "" : "&", "delimiter=%2F&list-type=2&prefix=", UrlEncode(prefix));
    };
    TRIREME_ASSIGN_OR_RETURN(const Response response, bucket->Ask("GET", url, {}));
    const int status = response.head.status;
    if (status != 200)
      return HttpError(status, "the bucket's list", IsDenied(status) ? bucket->Hint() : "");
    const std::string before = token;
    TRIREME_ASSIGN_OR_RETURN(token, ReadS3Page(response.body, &keys));
    if (token.empty()) return keys;
    if (token == before) break;
  }
  return absl::ResourceExhaustedError("the bucket's list does not end");
}

}  // namespace

absl::StatusOr<Listing> ListS3(const Source& source, const ListOptions& options) {
  const auto bucket = std::make_shared<Bucket>(source.root, options);
  std::string prefix = source.path;
  if (!prefix.empty() && !prefix.ends_with('/')) {
    auto object = Head(bucket, source.path);
    if (object.ok()) return Listing{"", {*std::move(object)}};
    if (!absl::IsNotFound(object.status())) return object.status();
    prefix += '/';
  }
  TRIREME_ASSIGN_OR_RETURN(const std::vector<std::string> keys, Keys(bucket.get(), prefix));
  std::vector<RemoteFile> files;
  for (const std::string& key : keys) {
    if (!key.starts_with(prefix)) continue;
    RemoteFile file;
    file.name = key.substr(prefix.size());
    if (IsSafePath(file.name) && file.name.find('/') == std::string::npos)
      files.push_back(std::move(file));
  }
  TRIREME_ASSIGN_OR_RETURN(files, SelectModelFiles(std::move(files), ""));
  for (RemoteFile& file : files) {
    TRIREME_ASSIGN_OR_RETURN(file, Head(bucket, prefix + file.name));
  }
  return Listing{"", std::move(files)};
}

}  // namespace trireme::pull
