// Key files: who may read them, and whether serve will take them.
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstdio>
#include <ctime>
#include <memory>

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

// Who besides the owner may read or write a secret. `path` for the command that ends it.
Finding Mode(const Host& host, const std::string& path, const char* check, const char* what) {
  struct stat info = {};
  if (stat((host.root + path).c_str(), &info) != 0)
    return {Level::kError, check, StrCat(what, ": ", path, " is not there"),
            "serve will not start"};
  const unsigned others = info.st_mode & (S_IRWXG | S_IRWXO);
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o", info.st_mode & 07777);
  if (others == 0) return {Level::kOk, check, StrCat(what, ": mode ", mode)};
  return {Level::kWarning, check, StrCat(what, ": mode ", mode),
          "group or others may read a secret", StrCat("chmod 600 ", path)};
}

Finding Keys(const std::string& text) {
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
          "echo \"$(openssl rand -hex 24) team-a\" > keys.txt && chmod 600 keys.txt"};
}

Finding Certificate(const std::string& chain, const std::string& key_text) {
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(Memory(chain).get(), nullptr, nullptr, nullptr), X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(Memory(key_text).get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  constexpr char kCheck[] = "keys.tls";
  if (certificate == nullptr || key == nullptr) {
    return {
        Level::kError, kCheck,
        StrCat(certificate == nullptr ? "--tls-cert" : "--tls-key", " is no PEM that can be read"),
        "serve will not start", "openssl x509 -in CERT -noout -text; openssl pkey -in KEY -noout"};
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return {Level::kError, kCheck, "certificate and private key do not belong together",
            "serve will not start",
            "openssl x509 -in CERT -noout -pubkey; openssl pkey -in KEY -pubout    # compare"};
  }
  int days = 0, seconds = 0;
  ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate.get()));
  if (days < 0 || seconds < 0) {
    return {Level::kError, kCheck, StrCat("the certificate expired ", -days, " days ago"),
            "clients refuse it", "renew it with whoever issued it"};
  }
  return {days < kSoonDays ? Level::kWarning : Level::kOk, kCheck,
          StrCat("certificate and key belong together; it expires in ", days, " days"),
          days < kSoonDays ? "clients refuse an expired certificate" : "",
          days < kSoonDays ? "renew it with whoever issued it" : ""};
}

}  // namespace

Findings CheckKeyFiles(const Host& host, const Settings& settings) {
  Findings findings;
  const auto unreadable = [](const std::string& path, const char* check) {
    return Finding{Level::kError, check, StrCat(path, " cannot be read"), "serve will not start",
                   StrCat("ls -l ", path)};
  };
  if (!settings.api_keys_file.empty()) {
    findings.push_back(Mode(host, settings.api_keys_file, "keys.api", "--api-keys"));
    if (findings.back().level != Level::kError) {
      const auto text = host.Read(settings.api_keys_file);
      findings.push_back(text ? Keys(*text) : unreadable(settings.api_keys_file, "keys.api"));
    }
  }
  if (!settings.tls_key_file.empty()) {
    findings.push_back(Mode(host, settings.tls_key_file, "keys.tls", "--tls-key"));
    const auto chain = host.Read(settings.tls_cert_file), key = host.Read(settings.tls_key_file);
    if (!chain) findings.push_back(unreadable(settings.tls_cert_file, "keys.tls"));
    if (chain && key) findings.push_back(Certificate(*chain, *key));
    if (!key && findings.front().level != Level::kError)
      findings.push_back(unreadable(settings.tls_key_file, "keys.tls"));
  }
  return findings;
}

}  // namespace trireme::doctor
