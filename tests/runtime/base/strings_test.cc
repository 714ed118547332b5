#include "runtime/base/strings.h"

#include <gtest/gtest.h>

#include <string>

namespace trireme {
namespace {

TEST(Printable, PlainTextStaysAsItIs) {
  EXPECT_EQ(Printable("model.layers.0.weight"), "model.layers.0.weight");
  EXPECT_EQ(Printable("größe 日本 😀"), "größe 日本 😀");
  EXPECT_EQ(Printable(""), "");
}

TEST(Printable, ControlCharactersAreEscaped) {
  EXPECT_EQ(Printable("a\nb\r\t"), "a\\nb\\r\\t");
  EXPECT_EQ(Printable("\x1b[2Jx\x7f"), "\\x1b[2Jx\\x7f");
  EXPECT_EQ(Printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b") << "C1: CSI";
  EXPECT_EQ(Printable("\xe2\x80\xae"), "\\xe2\\x80\\xae") << "right-to-left override";
  EXPECT_EQ(Printable("a\\n"), "a\\\\n") << "told from an escaped line break";
}

TEST(Printable, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(Printable("\xff"), "\\xff");
  EXPECT_EQ(Printable("a\xc3"), "a\\xc3") << "truncated";
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf") << "overlong";
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "above U+10FFFF";
  EXPECT_EQ(Printable("\xe2\x28\xa1"), "\\xe2(\\xa1");
}

TEST(Printable, LongTextIsCutAtACharacter) {
  EXPECT_EQ(Printable("abcd", 4), "abcd");
  EXPECT_EQ(Printable("abcde", 4), "abcd...");
  EXPECT_EQ(Printable("abcéf", 4), "abc...");
  EXPECT_EQ(Printable(std::string(1 << 20, 'x')).size(), 67u);
}

}  // namespace
}  // namespace trireme
