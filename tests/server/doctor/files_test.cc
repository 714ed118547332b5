#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <memory>

#include "tests/fakes/tiny_model.h"
#include "tests/server/doctor/fake_host.h"

namespace trireme::doctor {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Pair {
  std::string certificate, key;
};

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

// Self-signed, from `begin_days` until `days` from now. `cipher`: of the key; null: none.
Pair MakePair(int days, int begin_days = -100, const EVP_CIPHER* cipher = nullptr) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(certificate), begin_days * 86400L + 60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400L + 60);
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, EVP_sha256());
  BIO* one = BIO_new(BIO_s_mem());
  BIO* other = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(one, certificate);
  char phrase[] = "phrase";
  PEM_write_bio_PrivateKey(other, key, cipher, nullptr, 0, nullptr,
                           cipher != nullptr ? phrase : nullptr);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return {Text(one), Text(other)};
}

class FilesTest : public testing::Test, protected FakeHost {
 protected:
  void WriteWithMode(const std::string& path, const std::string& content, mode_t mode) {
    Write(path, content);
    chmod((host.root + path).c_str(), mode);
  }
  Findings Tls(const Pair& pair, mode_t mode = 0600) {
    Write("/cert.pem", pair.certificate);
    WriteWithMode("/key.pem", pair.key, mode);
    Settings settings;
    settings.tls_cert_file = "/cert.pem";
    settings.tls_key_file = "/key.pem";
    return CheckKeyFiles(host, settings);
  }
  Findings Keys(const std::string& content, mode_t mode) {
    WriteWithMode("/keys", content, mode);
    Settings settings;
    settings.api_keys_file = "/keys";
    return CheckKeyFiles(host, settings);
  }
};

TEST_F(FilesTest, WithoutKeyFilesNothingIsSaid) { EXPECT_THAT(CheckKeyFiles(host, {}), IsEmpty()); }

TEST_F(FilesTest, AKeyFileForItsOwnerOnlyIsFine) {
  EXPECT_THAT(
      Keys("sk-0123456789abcdef team-a\nsk-fedcba9876543210\n", 0600),
      ElementsAre(Is(Level::kOk, "keys.api", "mode 0600"), Is(Level::kOk, "keys.api", "2 keys")));
}

TEST_F(FilesTest, AKeyFileThatOthersCanReadIsWarnedOf) {
  EXPECT_THAT(Keys("sk-1\n", 0644), Contains(AllOf(Is(Level::kWarning, "keys.api", "mode 0644"),
                                                   Mends("chmod 600 /keys"))));
}

TEST_F(FilesTest, ShortKeysAreWarnedOfByCountAndLineOnly) {
  const Findings findings = Keys("sk-0123456789abcdef\nsk-secret\n", 0600);
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "keys.api", "1 of 2 keys below 16 bytes")));
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "keys.api", "in line 2")));
  EXPECT_THAT(JsonReport(findings), Not(HasSubstr("sk-secret")));
}

TEST_F(FilesTest, AKeyFileThatServeRefusesIsAnErrorAndItsKeysAreNotShown) {
  const Findings findings = Keys("sk-secret a b c\n", 0600);
  EXPECT_THAT(findings, Contains(Is(Level::kError, "keys.api", "line 1")));
  EXPECT_THAT(JsonReport(findings), Not(HasSubstr("sk-secret")));
  Settings settings;
  settings.api_keys_file = "/nowhere";
  EXPECT_THAT(CheckKeyFiles(host, settings),
              ElementsAre(Is(Level::kError, "keys.api", "/nowhere is not there")));
}

TEST_F(FilesTest, CertificateAndKeyThatBelongTogether) {
  EXPECT_THAT(Tls(MakePair(90)), ElementsAre(Is(Level::kOk, "keys.tls", "mode 0600"),
                                             Is(Level::kOk, "keys.tls", "expires in 90 days")));
  EXPECT_THAT(Tls(MakePair(90), 0640), Contains(AllOf(Is(Level::kWarning, "keys.tls", "0640"),
                                                      Mends("chmod 600 /key.pem"))));
}

TEST_F(FilesTest, CertificatesThatClientsWillRefuse) {
  EXPECT_THAT(Tls(MakePair(5)), Contains(AllOf(Is(Level::kWarning, "keys.tls", "expires in 5 days"),
                                               Mends("renew"))));
  EXPECT_THAT(Tls(MakePair(-3)), Contains(Is(Level::kError, "keys.tls", "expired")));
  EXPECT_THAT(Tls({MakePair(90).certificate, MakePair(90).key}),
              Contains(Is(Level::kError, "keys.tls", "do not belong together")));
  EXPECT_THAT(Tls({"nonsense", MakePair(90).key}),
              Contains(Is(Level::kError, "keys.tls", "--tls-cert is no PEM")));
  EXPECT_THAT(Tls({MakePair(90).certificate, "nonsense"}),
              Contains(Is(Level::kError, "keys.tls", "--tls-key is no PEM")));
}

TEST_F(FilesTest, ACertificateThatIsNotValidYet) {
  EXPECT_THAT(Tls(MakePair(90, 7)),
              Contains(AllOf(Is(Level::kError, "keys.tls", "not valid before 7 days from now"),
                             Mends("timedatectl"))));
}

TEST_F(FilesTest, AnEncryptedKeyIsToldFromADamagedOne) {
  EXPECT_THAT(Tls(MakePair(90, -100, EVP_aes_256_cbc())),
              Contains(AllOf(Is(Level::kError, "keys.tls", "encrypted with a pass phrase"),
                             Mends("openssl pkey -in /key.pem -out /key.pem.plain"))));
}

TEST_F(FilesTest, WhatIsNoRegularFileIsNotRead) {
  Settings settings;
  settings.api_keys_file = settings.tls_key_file = settings.tls_cert_file = "/pipe";
  ASSERT_EQ(mkfifo((host.root + "/pipe").c_str(), 0600), 0);
  EXPECT_THAT(CheckKeyFiles(host, settings),
              ElementsAre(Is(Level::kError, "keys.api", "no regular file"),
                          Is(Level::kError, "keys.tls", "--tls-key: /pipe is no regular file"),
                          Is(Level::kError, "keys.tls", "--tls-cert: /pipe is no regular file")));
}

// The error of one file does not hide that of another.
TEST_F(FilesTest, EveryFileIsLookedAt) {
  Settings settings;
  settings.api_keys_file = "/nowhere";
  settings.tls_cert_file = "/cert.pem";
  settings.tls_key_file = "/no-key.pem";
  Write("/cert.pem", MakePair(90).certificate);
  EXPECT_THAT(
      CheckKeyFiles(host, settings),
      ElementsAre(AllOf(Is(Level::kError, "keys.api", "/nowhere"), Mends("> /nowhere")),
                  AllOf(Is(Level::kError, "keys.tls", "/no-key.pem"), Mends("openssl req"))));
}

TEST(ShellQuote, BashReadsBackWhatWasQuoted) {
  EXPECT_EQ(ShellQuote("/etc/keys.txt"), "/etc/keys.txt");
  for (const std::string& word :
       {std::string(""), std::string("a b"), std::string("k'$(id).txt"),
        std::string("ev\x1b[31mil"), std::string("a\\n\n'b"), std::string("\xff\u202e")}) {
    const std::string quoted = ShellQuote(word);
    EXPECT_EQ(quoted.find('\x1b'), std::string::npos);
    fakes::TempDirectory files;
    fakes::WriteFile(files.File("x.sh"), "printf %s " + quoted + " > " + files.File("out"));
    ASSERT_EQ(std::system(("bash " + files.File("x.sh")).c_str()), 0) << quoted;  // NOLINT
    EXPECT_EQ(fakes::ReadFile(files.File("out")), word) << quoted;
  }
}

class ModelCheckTest : public FilesTest {
 protected:
  ModelCheckTest() {
    settings_.load.model = model_.path();
    fakes::WriteTinyHuggingFaceModel(fakes::TinyModel{}, model_.path());
  }
  fakes::TempDirectory model_;
  Settings settings_;
};

TEST_F(ModelCheckTest, ASoundModelThatFits) {
  EXPECT_THAT(CheckModel(host, settings_), ElementsAre(Is(Level::kOk, "model.files", "tensors"),
                                                       Is(Level::kOk, "model.memory", "weights")));
}

TEST_F(ModelCheckTest, ATextSideThatCannotBeLoaded) {
  fakes::WriteFile(model_.File("chat_template.jinja"), "{% if x %}");
  EXPECT_THAT(CheckModel(host, settings_),
              ElementsAre(AllOf(Is(Level::kError, "model.files", "chat_template.jinja"),
                                Mends("--chat-template"))));
  settings_.load.chat_template_file = model_.File("mine.jinja");
  fakes::WriteFile(settings_.load.chat_template_file, "{{ messages }}");
  EXPECT_THAT(CheckModel(host, settings_), Contains(Is(Level::kOk, "model.files", "tensors")));
  fakes::WriteFile(model_.File("tokenizer.json"), "{}");
  EXPECT_THAT(CheckModel(host, settings_),
              ElementsAre(Is(Level::kError, "model.files", "tokenizer.json")));
}

TEST_F(ModelCheckTest, NoModelIsNoFinding) { EXPECT_THAT(CheckModel(host, {}), IsEmpty()); }

TEST_F(ModelCheckTest, AModelThatCannotBeLoaded) {
  fakes::WriteFile(model_.File("config.json"), "{");
  EXPECT_THAT(
      CheckModel(host, settings_),
      ElementsAre(AllOf(Is(Level::kError, "model.files", "config.json"), Mends("fetch it again"))));
  fakes::WriteFile(model_.File("config.json"),
                   fakes::TinyConfigJson(fakes::TinyModel{.mlp_size = 64}));
  EXPECT_THAT(CheckModel(host, settings_), ElementsAre(Is(Level::kError, "model.files", "proj")));
  settings_.model_error = "hf://a/b is not on this machine";
  settings_.load.model = "hf://a/b";
  EXPECT_THAT(CheckModel(host, settings_),
              ElementsAre(AllOf(Is(Level::kError, "model.files", "hf://a/b"),
                                Mends("trireme pull hf://a/b"))));
}

TEST_F(ModelCheckTest, AModelThatDoesNotFit) {
  Write("/proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 10 kB\n");
  EXPECT_THAT(CheckModel(host, settings_),
              Contains(AllOf(Is(Level::kError, "model.memory", "10 KiB are available"),
                             Mends("quantised"))));
}

TEST_F(ModelCheckTest, AKvCacheThatDoesNotFit) {
  Write("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n");
  settings_.load.kv_cache_bytes = int64_t{6} << 30;
  EXPECT_THAT(CheckModel(host, settings_),
              Contains(AllOf(Is(Level::kError, "model.memory", "4 GiB are available"),
                             Mends("--kv-cache-memory "))));
  settings_.load.kv_cache_bytes = 1;
  EXPECT_THAT(CheckModel(host, settings_),
              Contains(AllOf(Is(Level::kError, "model.memory", ""), Mends("--kv-cache-memory"))));
}

}  // namespace
}  // namespace trireme::doctor
