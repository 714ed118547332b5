// Small templates against the output of Jinja2 itself, as tests/golden/make_chat_golden.py recorded it.
#include <gtest/gtest.h>

#include "tests/runtime/text/jinja/jinja_testing.h"

namespace trireme::jinja {
namespace {

TEST(ExpressionGolden, EveryCaseRendersAsJinja2) {
  const boost::json::value golden = ReadGolden("expressions.json");
  const boost::json::object& variables = golden.at("variables").as_object();
  size_t checked = 0;
  for (const boost::json::value& entry : golden.at("cases").as_array()) {
    const boost::json::array& pair = entry.as_array();
    const std::string source(pair[0].as_string());
    SCOPED_TRACE(source);
    const absl::StatusOr<Rendered> rendered = RenderSource(source, variables);
    if (pair[1].is_null()) {
      EXPECT_FALSE(rendered.ok()) << "rendered \"" << rendered->text << "\"; Jinja2 refuses";
    } else if (rendered.ok()) {
      EXPECT_EQ(rendered->text, pair[1].as_string().c_str());
    } else {
      ADD_FAILURE() << rendered.status() << "\nexpected \"" << pair[1].as_string() << "\"";
    }
    ++checked;
  }
  EXPECT_GE(checked, 600u);
}

}  // namespace
}  // namespace trireme::jinja
