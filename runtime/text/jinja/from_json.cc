#include "runtime/text/jinja/from_json.h"

namespace trireme::jinja {

Value FromJson(Runtime& rt, const boost::json::value& json) {
  DepthGuard guard(rt);
  rt.Charge(1);
  switch (json.kind()) {
    case boost::json::kind::null: return Value::None();
    case boost::json::kind::bool_: return Value::Bool(json.get_bool());
    case boost::json::kind::int64: return Value::Int(json.get_int64());
    case boost::json::kind::uint64:
      if (json.get_uint64() > static_cast<uint64_t>(INT64_MAX)) {
        throw TemplateError(
            absl::InvalidArgumentError("integers beyond 64 bits are not supported in a chat"));
      }
      return Value::Int(static_cast<int64_t>(json.get_uint64()));
    case boost::json::kind::double_: return Value::Float(json.get_double());
    case boost::json::kind::string: {
      const boost::json::string& text = json.get_string();
      return rt.NewStringView({text.data(), text.size()}, /*user=*/true);
    }
    case boost::json::kind::array: {
      Values items = rt.NewValues();
      items.reserve(json.get_array().size());
      for (const boost::json::value& item : json.get_array()) items.push_back(FromJson(rt, item));
      return rt.NewList(std::move(items));
    }
    case boost::json::kind::object: break;
  }
  Dict* dict = rt.NewDict();
  for (const auto& [key, value] : json.get_object()) {
    dict->Set(rt.NewStringView({key.data(), key.size()}, /*user=*/true), FromJson(rt, value));
  }
  return Value::Of(dict);
}

}  // namespace trireme::jinja
