// Who we are to AWS, looked for where its own tools look: the environment, ~/.aws, the container's
// and the instance's role.
// Sources: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html and
// .../feature-container-credentials.html, .../feature-imds-credentials.html (IMDSv2 only).
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trireme::pull {

struct AwsCredentials {
  std::string access_key, secret_key, session_token;  // the last may be empty
  absl::Time expires = absl::InfiniteFuture();
  std::string from;  // "the environment": for messages
};

// The section of an INI file as AWS writes it ("[profile x]" or "[x]"): the value of `key`.
std::optional<std::string> IniValue(const std::string& text, const std::string& section,
                                    const std::string& key);

// nullopt when none of the places has any: requests go unsigned then. A place that has them, but
// broken ones, is an error.
absl::StatusOr<std::optional<AwsCredentials>> FindAwsCredentials(const std::atomic<bool>* stop);

// AWS_REGION, AWS_DEFAULT_REGION, the profile's; else "us-east-1".
std::string FindAwsRegion();

// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL; empty: Amazon's. No slash at the end.
std::string FindS3Endpoint();

}  // namespace trireme::pull
