// Key files: who may read them, and whether serve will take them.
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstdio>
#include <ctime>
#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "runtime/base/strings.h"
#include "server/admission/keys.h"
#include "server/doctor/doctor.h"

namespace trireme::doctor {
namespace {

constexpr int kSoonDays = 14;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

Bio Memory(const std::string& text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

// A file of a setting: its flag, which names it in findings, and where it is.
struct SecretFile {
  const char* check;
  const char* flag;
  const std::string& path;
};

// Whether serve can read it: a regular file, small enough. Sets `text` when it can.
std::optional<Finding> Unreadable(const Host& host, const SecretFile& file, const std::string& make,
                                  std::optional<std::string>* text) {
  struct stat info = {};
  constexpr char kWhy[] = "serve will not start";
  if (stat((host.root + file.path).c_str(), &info) != 0) {
    return Finding{Level::kError, file.check, StrCat(file.flag, ": ", file.path, " is not there"),
                   kWhy, make};
  }
  // Whatever else it is (a pipe, a terminal) might never end.
  if (!S_ISREG(info.st_mode)) {
    return Finding{Level::kError, file.check,
                   StrCat(file.flag, ": ", file.path, " is no regular file"), kWhy, make};
  }
  *text = host.Read(file.path);
  if (text->has_value()) return std::nullopt;
  return Finding{Level::kError, file.check, StrCat(file.flag, ": ", file.path, " cannot be read"),
                 kWhy, StrCat("chown \"$(id -u)\" ", ShellQuote(file.path))};
}

// Who besides the owner may read or write a secret.
Finding Mode(const Host& host, const SecretFile& file) {
  struct stat info = {};
  stat((host.root + file.path).c_str(), &info);
  const unsigned others = info.st_mode & (S_IRWXG | S_IRWXO);
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o", info.st_mode & 07777);
  if (others == 0) return {Level::kOk, file.check, StrCat(file.flag, ": mode ", mode)};
  return {Level::kWarning, file.check, StrCat(file.flag, ": mode ", mode),
          "group or others may read a secret", StrCat("chmod 600 ", ShellQuote(file.path))};
}

std::string MakeKeys(const std::string& path) {
  return StrCat("(umask 077; echo \"$(openssl rand -hex 24) team-a\" > ", ShellQuote(path), ")");
}

Finding Keys(const std::string& path, const std::string& text) {
  std::vector<int> short_lines;
  const auto keys = ParseKeys(text, &short_lines);
  if (keys.ok() && !short_lines.empty()) {
    return {Level::kWarning, "keys.api",
            StrCat(short_lines.size(), " of ", keys->size(), " keys below ", kMinKeyBytes,
                   " bytes, the first in line ", short_lines.front()),
            "they can be guessed", "openssl rand -hex 24    # makes a good one"};
  }
  if (keys.ok())
    return {Level::kOk, "keys.api", StrCat(keys->size(), keys->size() == 1 ? " key" : " keys")};
  return {Level::kError, "keys.api", std::string(keys.status().message()), "serve will not start",
          StrCat("${EDITOR:-vi} ", ShellQuote(path), "    # a line: KEY [TENANT]")};
}

// No pass phrase: OpenSSL would ask the terminal for one, and wait.
int NoPassPhrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 0;
}

// From now to `time`; negative when that is past.
absl::Duration Until(const ASN1_TIME* time) {
  int days = 0, seconds = 0;
  ASN1_TIME_diff(&days, &seconds, nullptr, time);
  return absl::Hours(24) * days + absl::Seconds(seconds);
}

std::string DaysText(absl::Duration time) {
  const int64_t days = absl::AbsDuration(time) / absl::Hours(24);
  return StrCat(days, days == 1 ? " day" : " days");
}

Finding Certificate(const Settings& settings, const std::string& chain,
                    const std::string& key_text) {
  const std::string cert_path = ShellQuote(settings.tls_cert_file),
                    key_path = ShellQuote(settings.tls_key_file);
  constexpr char kCheck[] = "keys.tls", kWhy[] = "serve will not start";
  bool encrypted = false;
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(Memory(chain).get(), nullptr, NoPassPhrase, &encrypted), X509_free);
  if (certificate == nullptr) {
    return {Level::kError, kCheck, "--tls-cert is no PEM that can be read", kWhy,
            StrCat("openssl x509 -noout -text -in ", cert_path)};
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(Memory(key_text).get(), nullptr, NoPassPhrase, &encrypted),
      EVP_PKEY_free);
  if (key == nullptr && encrypted) {
    return {Level::kError, kCheck, "--tls-key is encrypted with a pass phrase",
            "serve starts unattended and asks for none",
            StrCat("openssl pkey -in ", key_path, " -out ",
                   ShellQuote(settings.tls_key_file + ".plain"), "    # and give that file")};
  }
  if (key == nullptr) {
    return {Level::kError, kCheck, "--tls-key is no PEM that can be read", kWhy,
            StrCat("openssl pkey -noout -in ", key_path)};
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return {Level::kError, kCheck, "certificate and private key do not belong together", kWhy,
            StrCat("openssl x509 -noout -pubkey -in ", cert_path, "; openssl pkey -pubout -in ",
                   key_path, "    # compare")};
  }
  constexpr char kRenew[] = "renew it with whoever issued it", kRefused[] = "clients refuse it";
  const absl::Duration begins = Until(X509_get0_notBefore(certificate.get()));
  const absl::Duration left = Until(X509_get0_notAfter(certificate.get()));
  if (begins > absl::ZeroDuration()) {
    return {Level::kError, kCheck,
            StrCat("the certificate is not valid before ", DaysText(begins), " from now"), kRefused,
            "timedatectl    # is the clock right? Else take one that is valid already"};
  }
  if (left < absl::ZeroDuration()) {
    return {Level::kError, kCheck, StrCat("the certificate expired ", DaysText(left), " ago"),
            kRefused, kRenew};
  }
  const bool soon = left < absl::Hours(24) * kSoonDays;
  return {soon ? Level::kWarning : Level::kOk, kCheck,
          StrCat("certificate and key belong together; it expires in ", DaysText(left)),
          soon ? "clients refuse an expired certificate" : "", soon ? kRenew : ""};
}

}  // namespace

Findings CheckKeyFiles(const Host& host, const Settings& settings) {
  Findings findings;
  if (!settings.api_keys_file.empty()) {
    const SecretFile file = {"keys.api", "--api-keys", settings.api_keys_file};
    std::optional<std::string> text;
    if (auto wrong = Unreadable(host, file, MakeKeys(file.path), &text)) {
      findings.push_back(*std::move(wrong));
    } else {
      findings.push_back(Mode(host, file));
      findings.push_back(Keys(file.path, *text));
    }
  }
  if (!settings.tls_key_file.empty()) {
    const SecretFile cert_file = {"keys.tls", "--tls-cert", settings.tls_cert_file},
                     key_file = {"keys.tls", "--tls-key", settings.tls_key_file};
    const std::string make = StrCat(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj \"/CN=$(hostname -f)\" -out ",
        ShellQuote(cert_file.path), " -keyout ", ShellQuote(key_file.path),
        "    # signed by itself");
    std::optional<std::string> chain, key;
    if (auto wrong = Unreadable(host, key_file, make, &key)) {
      findings.push_back(*std::move(wrong));
    } else {
      findings.push_back(Mode(host, key_file));
    }
    if (auto wrong = Unreadable(host, cert_file, make, &chain))
      findings.push_back(*std::move(wrong));
    if (chain && key) findings.push_back(Certificate(settings, *chain, *key));
  }
  return findings;
}

}  // namespace trireme::doctor
