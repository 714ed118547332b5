#include <gtest/gtest.h>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/nfc.h"
#include "runtime/text/utf8.h"

namespace trireme {
namespace {

std::string Repaired(std::string_view bytes) {
  std::string out;
  EXPECT_EQ(AppendValidUtf8(bytes, false, &out), bytes.size());
  EXPECT_EQ(out == bytes, IsValidUtf8(bytes));
  return out;
}

TEST(Utf8, EveryMaximalIllFormedPartIsOneReplacement) {
  EXPECT_EQ(Repaired("plain ascii, é中🙂"), "plain ascii, é中🙂");
  EXPECT_EQ(Repaired("\x80z"), "\uFFFDz");
  EXPECT_EQ(Repaired("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(Repaired("\xE0\x80\x80"), "\uFFFD\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(Repaired("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(Repaired("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  EXPECT_EQ(Repaired("\xF0\x9F\x99z"), "\uFFFDz");
  EXPECT_EQ(Repaired("\xE4\xB8\xE4\xB8\xAD"), "\uFFFD中");
  EXPECT_EQ(Repaired("\xF0\x9F"), "\uFFFD");
}

TEST(Utf8, AnUnfinishedEndIsKeptOnRequest) {
  std::string out;
  EXPECT_EQ(AppendValidUtf8("ab\xF0\x9F\x99", true, &out), 2u);
  EXPECT_EQ(out, "ab");
}

TEST(Utf8, CodePointsRoundTrip) {
  for (char32_t c = 0; c < 0x110000; c += (c > 0x3000 ? 97 : 1)) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Sequence s = ReadUtf8(text);
    ASSERT_EQ(s.kind, Utf8Sequence::Kind::kValid);
    ASSERT_EQ(s.code_point, c);
    size_t pos = 0;
    ASSERT_EQ(NextCodePoint(text, pos), c);
    ASSERT_EQ(pos, text.size());
  }
}

TEST(Nfc, ComposesReordersAndKeepsExclusions) {
  EXPECT_EQ(ToNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(ToNfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(ToNfc("\u212B\u2126"), "\u00C5\u03A9");
  EXPECT_EQ(ToNfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(ToNfc("\u0958"), "\u0915\u093C");
  EXPECT_EQ(ToNfc("\u1F82"), "\u1F82");
  EXPECT_EQ(ToNfc(""), "");
  EXPECT_EQ(ToNfc(std::string_view("a\0b", 3)), std::string_view("a\0b", 3));
}

TEST(Nfc, TextBelowTheFirstMarkIsTrivial) {
  EXPECT_TRUE(IsTriviallyNfc("abc \u00E9\u02FF"));
  EXPECT_FALSE(IsTriviallyNfc("e\u0301"));
}

TEST(ByteAlphabet, EveryByteHasACharacter) {
  for (int byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    std::string bytes = "before";
    AppendBytesOfToken(TokenOfBytes({&raw, 1}), &bytes);
    EXPECT_EQ(bytes, std::string("before") + raw);
  }
  EXPECT_EQ(TokenOfBytes(" \n"), "\u0120\u010A");
  std::string bytes;
  AppendBytesOfToken("<|x y|>", &bytes);  // a space is no character of the alphabet
  EXPECT_EQ(bytes, "<|x y|>");
}

}  // namespace
}  // namespace trireme
