#include "runtime/weights/strict_json.h"

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <optional>
#include <set>
#include <vector>

#include "runtime/base/mapped_file.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

using boost::json::error_code;
using boost::json::string_view;

// Events of one document; keeps the keys of the objects that are open. Boost.JSON's own parser lets
// the last of two equal keys win.
class DuplicateKeyFinder {
 public:
  static constexpr size_t max_object_size = static_cast<size_t>(-1);
  static constexpr size_t max_array_size = static_cast<size_t>(-1);
  static constexpr size_t max_key_size = static_cast<size_t>(-1);
  static constexpr size_t max_string_size = static_cast<size_t>(-1);

  bool on_object_begin(error_code&) {
    open_.emplace_back();
    return true;
  }
  bool on_object_end(size_t, error_code&) {
    open_.pop_back();
    return true;
  }
  bool on_key_part(string_view part, size_t, error_code&) {
    key_.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, size_t, error_code& error) {
    key_.append(part.data(), part.size());
    if (!open_.back().insert(key_).second) {
      duplicate_ = key_;
      error = boost::json::error::exception;  // any error stops the parser; duplicate() says which
                                              // it was
      return false;
    }
    key_.clear();
    return true;
  }
  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t, error_code&) { return true; }
  bool on_string_part(string_view, size_t, error_code&) { return true; }
  bool on_string(string_view, size_t, error_code&) { return true; }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t, string_view, error_code&) { return true; }
  bool on_uint64(uint64_t, string_view, error_code&) { return true; }
  bool on_double(double, string_view, error_code&) { return true; }
  bool on_bool(bool, error_code&) { return true; }
  bool on_null(error_code&) { return true; }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }

  const std::optional<std::string>& duplicate() const { return duplicate_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string key_;
  std::optional<std::string> duplicate_;
};

}  // namespace

absl::StatusOr<boost::json::object> ParseStrictJson(std::string_view text) {
  error_code error;
  boost::json::basic_parser<DuplicateKeyFinder> finder(boost::json::parse_options{});
  finder.write_some(false, text.data(), text.size(), error);
  if (const auto& key = finder.handler().duplicate(); key.has_value()) {
    return absl::InvalidArgumentError(StrCat("key ", Printable(*key), " appears twice"));
  }
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  if (error) return absl::InvalidArgumentError(StrCat("not JSON: ", error.message()));
  if (!value.is_object()) return absl::InvalidArgumentError("a JSON object is wanted");
  return std::move(value.get_object());
}

}  // namespace trireme
