// Limits, errors, provenance and sharing between threads.
#include "runtime/text/jinja/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/text/jinja/parser.h"
#include "tests/runtime/text/jinja/jinja_testing.h"

namespace trireme::jinja {
namespace {

using ::testing::HasSubstr;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// "text" with the request's parts in brackets.
std::string Marked(const absl::StatusOr<Rendered>& rendered) {
  if (!rendered.ok()) return MessageOf(rendered.status());
  std::string out;
  size_t done = 0;
  for (const ByteRange& range : rendered->user) {
    out += rendered->text.substr(done, range.begin - done) + "[" +
           rendered->text.substr(range.begin, range.end - range.begin) + "]";
    done = range.end;
  }
  return out + rendered->text.substr(done);
}

class HostileTemplate : public ::testing::TestWithParam<std::string> {};

TEST_P(HostileTemplate, StopsAtALimit) {
  const absl::StatusOr<Rendered> rendered = RenderSource(GetParam(), {{"s", "aaaa"}});
  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kResourceExhausted) << rendered.status();
}

// Work that costs few nodes but many bytes.
INSTANTIATE_TEST_SUITE_P(
    Bytes, HostileTemplate,
    ::testing::Values(
        "{% set k = 'k' * 9000000 %}{% set d = {k: 1} %}{% for i in range(99999) %}"
        "{% if d[k] %}{% endif %}{% endfor %}",
        "{% set k = 'k' * 9000000 %}{% for i in range(99999) %}{% if k in [k] %}{% endif %}"
        "{% endfor %}",
        "{% set k = 'k' * 9000000 %}{% for i in range(99999) %}{% if k is sameas k %}{% endif %}"
        "{% endfor %}",
        "{% set k = '1' * 9000000 %}{% for i in range(99999) %}{{ (k ~ 'x')|int }}{% endfor %}",
        "{% set k = 'k' * 9000000 %}{% for i in range(99999) %}{% if k.removeprefix(k) %}"
        "{% endif %}{% endfor %}"));

INSTANTIATE_TEST_SUITE_P(
    Limits, HostileTemplate,
    ::testing::Values(
        "{{ 'a' * 1000000000 }}", "{{ 1000000000 * 'a' }}", "{{ [1] * 1000000000 }}",
        "{{ range(1000000000) }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro m(x) %}{% call m(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ m(1) }}",
        "{% for x in [s] recursive %}{{ loop([x]) }}{% endfor %}",
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(l=[]) %}{% for a in range(50000) %}{% set ns.l = [ns.l] %}"
        "{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[]) %}{% for a in range(50000) %}{% set ns.l = [ns.l] %}"
        "{% endfor %}{{ ns.l|tojson }}",
        "{% set a = namespace(l=[]) %}{% set b = namespace(l=[]) %}{% for i in range(50000) %}"
        "{% set a.l = [a.l] %}{% set b.l = [b.l] %}{% endfor %}{{ a.l == b.l }}",
        "{% set ns = namespace(s='ab') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for a in range(60) %}{% set ns.s = ns.s|replace('', "
        "ns.s) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(60) %}{% set ns.l = ns.l + ns.l %}"
        "{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
        "{% endfor %}{{ ns.l|string|length }}",
        "{% set x = 'a' * 2000000 %}{{ x.rfind('a' * 1000000 ~ 'b') }}"
        "{% for i in range(100000) %}{% if x.endswith(x) %}{% endif %}{% endfor %}",
        "{{ '%099999999d' % 1 }}", "{{ '{:>99999999}'.format(1) }}", "{{ 'a'.center(999999999) }}",
        "{{ 'a'.zfill(999999999) }}", "{{ [1]|batch(999999999, 'x')|list }}",
        "{{ [1]|slice(999999999)|list }}", "{{ 'a\nb'|indent(999999999) }}",
        "{{ {'a': 1}|tojson(indent=999999999) }}", "{% set x = 'x' * 30000000 %}{{ x }}{{ x }}",
        "{{ strftime_now('%A' * 1000) }}",
        "{% set x = range(100000)|list %}{% for i in x %}{% if x == x[:] %}{% endif %}"
        "{% endfor %}"));

TEST(Limits, WorstCaseSearchesAreBoundedByFuel) {
  // Naive search would compare 10^11 bytes here.
  const auto rendered = RenderSource(
      "{% set x = 'a' * 400000 %}{% set y = 'a' * 200000 ~ 'b' %}{{ x.find(y) }}{{ y in x }}"
      "{{ x.count(y) }}{{ x.split(y)|length }}");
  EXPECT_EQ(Marked(rendered), "-1False01");
}

TEST(Limits, DeepSourceIsRefused) {
  const auto repeat = [](std::string_view part, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += part;
    return out;
  };
  for (const std::string& source :
       {"{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
        "{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}",
        "{{ " + repeat("not ", 100000) + "1 }}", "{{ " + repeat("- ", 100000) + "1 }}",
        "{{ " + repeat("1 if 1 else ", 50000) + "1 }}",
        "{{ " + repeat("a[", 100000) + "1" + repeat("]", 100000) + " }}",
        "{{ " + repeat("f(", 100000) + repeat(")", 100000) + " }}", repeat("{% if 1 %}", 50000),
        "{% set " + repeat("(", 100000) + "x" + repeat(")", 100000) + " = 1 %}"}) {
    EXPECT_EQ(Program::Compile(source).status().code(), absl::StatusCode::kResourceExhausted)
        << source.substr(0, 20);
  }
  EXPECT_EQ(Program::Compile(std::string(kMaxSourceBytes + 1, 'x')).status().code(),
            absl::StatusCode::kResourceExhausted);
  // Long chains are not nested in the source, but their trees are deep.
  for (std::string_view link : {" + 1", " ~ 1 + 1", "|abs", ".x", " and 1"}) {
    const auto rendered = RenderSource("{{ 1" + repeat(link, 100000) + " }}");
    EXPECT_EQ(rendered.status().code(), absl::StatusCode::kResourceExhausted) << link;
  }
}

TEST(Limits, RequestDataAsDeepAsTheLimitIsRefused) {
  boost::json::value deep = 1;
  for (int i = 0; i < 2000; ++i) deep = boost::json::array{std::move(deep)};
  const auto rendered = RenderSource("{{ x }}", {{"x", deep}});
  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Limits, LongConversationsFit) {
  boost::json::array messages;
  for (int i = 0; i < 2000; ++i) {
    messages.push_back(
        {{"role", i % 2 ? "assistant" : "user"}, {"content", std::string(2000, 'x')}});
  }
  const auto rendered = RenderSource(
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content']|trim + "
      "'<|im_end|>\n' }}{% endfor %}",
      {{"messages", messages}});
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_GT(rendered->text.size(), 4'000'000u);
}

TEST(Errors, SyntaxErrorsNameLineAndColumn) {
  const std::pair<std::string, std::string> cases[] = {
      {"{{ a b }}", "line 1, column 6"},
      {"x\n  {% include 'y' %}", "line 2, column 6: the statement 'include' is not supported"},
      {"{% import 'a' as b %}", "line 1, column 4: the statement 'import'"},
      {"{% extends 'a' %}", "line 1, column 4: the statement 'extends'"},
      {"a\nb {{ x|nope }}", "line 2, column 8: no filter named 'nope'"},
      {"{{ x is nope }}", "line 1, column 9: no test named 'nope'"},
      {"\n\n{{ 'abc", "line 3, column 4: this string is never closed"},
      {"{% if x %}\n{% for y in z %}\n{% endif %}", "line 3, column 4"},
      {"{{ (1, ] }}", "line 1, column 8: unexpected ']'"},
      {"{% if x %}", "the end of the template"},
      {"{{ 99999999999999999999 }}", "integer outside the 64-bit range"},
  };
  for (const auto& [source, expected] : cases) {
    const absl::Status status = Program::Compile(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(MessageOf(status), HasSubstr(expected)) << source;
  }
  EXPECT_EQ(Program::Compile("\xff{{ x }}").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Errors, RenderingErrorsNameLineAndColumn) {
  const auto error = [](std::string_view source) {
    return MessageOf(RenderSource(source, {{"secret", "hunter2"}}).status());
  };
  EXPECT_THAT(error("a\n{{ x.y.z }}"), HasSubstr("line 2, column 5: 'x' is undefined"));
  EXPECT_THAT(error("{% for a in 1 %}{% endfor %}"), HasSubstr("line 1, column 4"));
  EXPECT_THAT(error("\n\n {{ 1 + 'a' }}"), HasSubstr("line 3, column 7"));
  EXPECT_THAT(error("{{ 9223372036854775807 + 1 }}"), HasSubstr("integer overflow"));
  EXPECT_THAT(error("{{ 2 ** 63 }}"), HasSubstr("integer overflow"));
  // What a user wrote stays out of messages.
  for (std::string_view source : {"{{ {}[secret].x }}", "{{ secret + 1 }}", "{{ secret.x.y }}",
                                  "{{ secret() }}", "{{ 'a'.format(**{secret: 1})[9].x }}",
                                  "{% macro m() %}{% endmacro %}{{ m(**{secret: 1}) }}"}) {
    EXPECT_THAT(error(source), ::testing::Not(HasSubstr("hunter2"))) << source;
    EXPECT_FALSE(RenderSource(source, {{"secret", "hunter2"}}).ok()) << source;
  }
}

TEST(Provenance, FollowsTextThroughEveryOperation) {
  const boost::json::object variables = {{"u", "us er"},   {"l", {"a", "b"}}, {"d", {{"k", "v\n"}}},
                                         {"w", "  x y  "}, {"n", 42},         {"g", "Grüße"}};
  const std::pair<std::string, std::string> cases[] = {
      {"a{{ u }}b", "a[us er]b"},
      {"{{ 'a' + u + 'b' }}", "a[us er]b"},
      {"{{ 'a' ~ u ~ n }}", "a[us er]42"},
      {"{{ ('a' + u + 'b')[:3] }}", "a[us]"},
      {"{{ ('a' + u + 'b')[3:] }}", "[ er]b"},
      {"{{ ('a' + u)[::-1] }}", "[re su]a"},
      {"{{ ('a' + u)|reverse }}", "[re su]a"},
      {"{{ ('<' + g + '>')[1:4] }}", "[Grü]"},
      {"{{ ('<' + g + '>')[5:] }}", "[e]>"},
      {"{{ w|trim }}", "[x y]"},
      {"{{ ('<' + w + '>').strip('<>') }}", "[  x y  ]"},
      {"{{ ('-' ~ u).split('s')[0] }}", "-[u]"},
      {"{{ u.split() }}", "['[us]', '[er]']"},
      {"{{ u.replace('s', '<s>') }}", "[u]<s>[ er]"},
      {"{{ '<x>'|replace('x', u) }}", "<[us er]>"},
      {"{{ '-x-'.replace('-', u) }}", "[us er]x[us er]"},
      {"{{ l|join('<|>') }}", "[a]<|>[b]"},
      {"{{ '<|>'.join(l) }}", "[a]<|>[b]"},
      {"{{ u.join(['<', '>']) }}", "<[us er]>"},
      {"{{ d|tojson }}", R"({"[k]": "[v\n]"})"},
      {"{{ {'t': '<' + u + '>'}|tojson }}", R"({"t": "<[us er]>"})"},
      {"{{ d }}", R"({'[k]': '[v\n]'})"},
      {"{{ u|upper }}{{ ('a' + u)|title }}", "[US ER]A[us Er]"},
      {"{{ ('a' + u)|capitalize }}", "A[us er]"},
      {"{{ '%s:%5s' % (u, 'x') }}", "[us er]:    x"},
      {"{{ '<%s>'|format(u) }}", "<[us er]>"},
      {"{{ u % () }}", "[us er]"},
      {"{{ '<{}|{x:>6}>'.format(u, x=u) }}", "<[us er]| [us er]>"},
      {"{{ u|indent(2, first=true) }}", "  [us er]"},
      {"{{ u|e }}{{ ('<' ~ u)|e }}", "[us er]&lt;[us er]"},
      {"{{ u * 2 }}{{ ('<' ~ u) * 2 }}", "[us erus er]<[us er]<[us er]"},
      {"{{ u|list }}", "['[u]', '[s]', '[ ]', '[e]', '[r]']"},
      {"{{ u|first }}{{ u[1] }}x{{ u|last }}", "[us]x[r]"},
      {"{{ u.center(9, '*') }}", "**[us er]**"},
      {"{{ u|truncate(4, true, '…', 0) }}", "[us ]…"},
      {"{{ l|map('upper')|join }}", "[AB]"},
      {"{{ l|sort|first }}<{{ l|max }}", "[a]<[b]"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "[k]=[v\n]"},
      {"{% set x %}<{{ u }}>{% endset %}{{ x }}", "<[us er]>"},
      {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(u)|upper }}", "<[US ER]>"},
      {"{% filter upper %}<s>{{ u }}{% endfilter %}", "<S>[US ER]"},
      {"{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}{{ u }}-{% endcall %}",
       "<[us er]->"},
      {"{% set ns = namespace(x='') %}{% for i in l %}{% set ns.x = ns.x + '<' + i %}{% endfor "
       "%}{{ ns.x }}",
       "<[a]<[b]"},
      {"{{ 'yes' if u == 'us er' else 'no' }}", "yes"},
      {"{{ {'us er': '<s>'}[u] }}", "<s>"},
      {"{{ u.partition(' ')|join('<>') }}", "[us]<>[ ]<>[er]"},
      {"{{ ('a\n' + u).splitlines()[1] }}", "[us er]"},
      {"{{ u|safe }}{{ u|string }}{{ zzz|default(u) }}", "[us erus erus er]"},
      {"{{ n }}{{ n|string }}{{ u|length }}", "42425"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(Marked(RenderSource(source, variables)), expected) << source;
  }
}

TEST(Program, RendersTheSameFromManyThreads) {
  const auto program = Program::Compile(
      "{% macro m(x) %}<{{ x|upper }}>{% endmacro %}{% set ns = namespace(n=0) %}"
      "{% for w in words %}{% set ns.n = ns.n + 1 %}{{ m(w) }}{% endfor %}{{ ns.n }}");
  ASSERT_TRUE(program.ok());
  const auto render = [&](const std::string& word) {
    const boost::json::value words = boost::json::array(100, boost::json::value(word));
    const auto rendered = (*program)->Render(
        [&](Runtime& rt, Program::Variables& out) { out.Set("words", FromJson(rt, words)); },
        GoldenNow());
    return rendered.ok() ? rendered->text : std::string();
  };
  std::vector<std::string> expected, actual(4);
  for (int i = 0; i < 4; ++i)
    expected.push_back(render(std::string(3, static_cast<char>('a' + i))));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        actual[static_cast<size_t>(i)] = render(std::string(3, static_cast<char>('a' + i)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(actual, expected);
  EXPECT_THAT(expected[1], HasSubstr("<BBB>100"));
}

TEST(Program, DateIsTheRequestsInUtc) {
  EXPECT_EQ(Marked(RenderSource("{{ strftime_now('%d %b %Y %H:%M') }}")), "26 Jul 2024 12:00");
}

TEST(Program, UnsafeAttributesAreOutOfReach) {
  for (std::string_view source : {"{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ [].__len__ }}",
                                  "{{ ''|attr('__class__') }}", "{{ '{0.__class__}'.format(1) }}",
                                  "{{ range.__globals__ }}"}) {
    EXPECT_EQ(Marked(RenderSource(source)), "") << source;
  }
  for (std::string_view source : {"{{ ''.__class__.__mro__ }}", "{{ [].append(1) }}",
                                  "{{ {}.update({}) }}", "{{ ''.__class__() }}"}) {
    EXPECT_EQ(RenderSource(source).status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

}  // namespace
}  // namespace trireme::jinja
