#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "runtime/base/strings.h"
#include "tests/server/http/test_server.h"

namespace trireme::http {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

template <typename T>
std::string ToPem(int (*write)(BIO*, const T*), const T* value) {
  BIO* bio = BIO_new(BIO_s_mem());
  write(bio, value);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

// A self-signed certificate of its own key, made anew.
struct Identity {
  std::string cert_pem, key_pem;
};
Identity MakeIdentity() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(cert, X509_get_subject_name(cert));
  X509_set_pubkey(cert, key);
  X509_sign(cert, key, EVP_sha256());
  Identity identity;
  identity.cert_pem = ToPem<X509>(PEM_write_bio_X509, cert);
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  identity.key_pem.assign(data, static_cast<size_t>(size));
  BIO_free(bio);
  X509_free(cert);
  EVP_PKEY_free(key);
  return identity;
}

// A blocking TLS client; does not check the certificate.
class TlsClient {
 public:
  TlsClient(int port, int max_version, std::string_view alpn)
      : context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_max_proto_version(context_, max_version);
    SSL_CTX_set_security_level(context_,
                               0);  // so that an old version is refused by the server, not by us
    SSL_CTX_set_alpn_protos(context_, reinterpret_cast<const unsigned char*>(alpn.data()),
                            static_cast<unsigned>(alpn.size()));
    bio_ = BIO_new_ssl_connect(context_);
    BIO_set_conn_hostname(bio_, StrCat("127.0.0.1:", port).c_str());
    connected_ = BIO_do_connect(bio_) == 1 && BIO_do_handshake(bio_) == 1;
  }
  ~TlsClient() {
    BIO_free_all(bio_);
    SSL_CTX_free(context_);
  }
  bool connected() const { return connected_; }
  std::string alpn() const {
    SSL* ssl = nullptr;
    BIO_get_ssl(bio_, &ssl);
    const unsigned char* name = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl, &name, &length);
    return {reinterpret_cast<const char*>(name), length};
  }
  void Send(std::string_view bytes) {
    BIO_write(bio_, bytes.data(), static_cast<int>(bytes.size()));
  }
  std::string ReadUntil(std::string_view marker) {
    std::string all;
    char bytes[4096];
    int n;
    while (all.find(marker) == std::string::npos &&
           (n = BIO_read(bio_, bytes, sizeof(bytes))) > 0) {
      all.append(bytes, static_cast<size_t>(n));
    }
    return all;
  }

 private:
  SSL_CTX* context_;
  BIO* bio_;
  bool connected_ = false;
};

constexpr std::string_view kHttp11 = "\x08http/1.1";

TestServerOptions WithTls() {
  const Identity identity = MakeIdentity();
  return {.http = {.tls_cert_pem = identity.cert_pem, .tls_key_pem = identity.key_pem}};
}

TEST(TlsTest, AnswersStreamsAndKeepsAlive) {
  TestServer server(WithTls());
  TlsClient client(server.port(), TLS1_3_VERSION, kHttp11);
  ASSERT_TRUE(client.connected());
  EXPECT_EQ(client.alpn(), "http/1.1");
  client.Send(fakes::HttpClient::Request("GET", "/health", ""));
  EXPECT_THAT(client.ReadUntil("\"ok\"}"), HasSubstr("200 OK"));
  client.Send(fakes::HttpClient::Request("POST", "/v1/completions",
                                         CompletionBody("\"x\"", R"("stream":true)"),
                                         "Connection: close\r\n"));
  EXPECT_THAT(client.ReadUntil("no such marker: to the end"), HasSubstr("data: [DONE]\n\n"));
}

TEST(TlsTest, AVanishedClientCancels) {
  TestServerOptions options = WithTls();
  options.next = Endless();
  TestServer server(std::move(options));
  server.executor->CloseGate();
  {
    TlsClient client(server.port(), TLS1_3_VERSION, kHttp11);
    client.Send(fakes::HttpClient::Request("POST", "/v1/completions",
                                           CompletionBody("\"x\"", R"("max_tokens":1000)")));
    server.executor->WaitForBlockedStep();
  }
  server.WaitForConnections(0);
  server.executor->OpenGate();
  server.WaitUntilQuiet();
}

TEST(TlsTest, OldVersionsOtherProtocolsAndPlainTextAreTurnedAway) {
  TestServer server(WithTls());
  EXPECT_TRUE(TlsClient(server.port(), TLS1_2_VERSION, kHttp11).connected());
  EXPECT_FALSE(TlsClient(server.port(), TLS1_1_VERSION, kHttp11).connected());
  EXPECT_FALSE(TlsClient(server.port(), TLS1_3_VERSION, "\x02h2").connected());
  fakes::HttpClient plain(server.port());
  EXPECT_EQ(plain.Get("/health").status, 0);
}

TEST(TlsTest, AKeyOfAnotherCertificateIsRefusedAtStart) {
  const absl::Status status = HttpServer::CheckTls(MakeIdentity().cert_pem, MakeIdentity().key_pem);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("--tls-key does not belong"));
}

TEST(TlsTest, WhatIsNoPemIsRefusedByItsFlag) {
  const Identity sound = MakeIdentity();
  const auto refusal = [](const std::string& cert, const std::string& key) {
    return std::string(HttpServer::CheckTls(cert, key).message());
  };
  EXPECT_EQ(refusal("", ""), "");
  EXPECT_EQ(refusal(sound.cert_pem, sound.key_pem), "");
  for (const char* text : {"", "x", "-----BEGIN CERTIFICATE-----\nx\n"}) {
    EXPECT_THAT(refusal(text, sound.key_pem), StartsWith("--tls-cert ")) << text;
    EXPECT_THAT(refusal(sound.cert_pem, text), StartsWith("--tls-key ")) << text;
  }
}

}  // namespace
}  // namespace trireme::http
