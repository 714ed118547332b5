#include "tests/gpusim/cudart/fat_binary.h"

#include <cctype>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>

#include "runtime/base/strings.h"

namespace trireme::gpusim {
namespace {

constexpr uint32_t kWrapperMagic = 0x466243b1, kContainerMagic = 0xba55ed50;
constexpr uint16_t kPtx = 1;
constexpr uint64_t kCompressed = 0x2000, kCompressedZstd = 0x8000;

struct Wrapper {
  uint32_t magic, version;
  const char* data;
  const void* unused;
};
struct Container {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // behind the header
};
struct Entry {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t bytes;
  uint32_t compressed_bytes, options_offset;
  uint16_t minor, major;
  uint32_t architecture, name_offset, name_bytes;
  uint64_t flags;
};

// "sm_90a" -> 90 and 'a'; 0: none.
struct Target {
  int number = 0;
  char suffix = '\0';
};
Target Parse(std::string_view name) {
  Target target;
  if (!name.starts_with("sm_")) return target;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 3, end, target.number);
  if (error != std::errc()) return {};
  if (rest != end) target.suffix = *rest;
  return target;
}

// "sm_90a" of the text's .target line.
std::string_view TargetOf(std::string_view ptx) {
  const size_t at = ptx.find(".target ");
  if (at == std::string_view::npos) return {};
  const std::string_view rest = ptx.substr(at + 8);
  return rest.substr(0, rest.find_first_of(", \n\r\t"));
}

// PTX ISA, ".target": plain targets run on what is as new or newer, "a" on that one architecture,
// "f" on its family.
bool Runs(Target ptx, Target device) {
  if (ptx.suffix == 'a') return device.number == ptx.number && device.suffix == 'a';
  if (ptx.suffix == 'f') {
    return device.number / 10 == ptx.number / 10 && device.number >= ptx.number;
  }
  return ptx.number != 0 && device.number >= ptx.number;
}

}  // namespace

absl::StatusOr<std::vector<std::string_view>> PtxTextsOf(const void* wrapper) {
  Wrapper outer;
  std::memcpy(&outer, wrapper, sizeof(outer));
  if (outer.magic != kWrapperMagic || outer.data == nullptr) {
    return absl::InvalidArgumentError("not a fat binary: its wrapper has another magic number");
  }
  Container container;
  std::memcpy(&container, outer.data, sizeof(container));
  if (container.magic != kContainerMagic || container.header_bytes < sizeof(container)) {
    return absl::InvalidArgumentError("not a fat binary: its container has another magic number");
  }
  std::vector<std::string_view> texts;
  const std::string_view all(outer.data + container.header_bytes, container.bytes);
  for (size_t at = 0; at < all.size();) {
    Entry entry;
    if (all.size() - at < sizeof(entry)) {
      return absl::InvalidArgumentError("a fat binary's last entry is cut off");
    }
    std::memcpy(&entry, all.data() + at, sizeof(entry));
    const size_t left = all.size() - at;
    if (entry.header_bytes < sizeof(entry) || entry.header_bytes > left ||
        entry.bytes > left - entry.header_bytes) {
      return absl::InvalidArgumentError("an entry runs over the end of its fat binary");
    }
    if (entry.kind == kPtx) {
      if ((entry.flags & (kCompressed | kCompressedZstd)) != 0) {
        return absl::InvalidArgumentError("the PTX is compressed: compile with --no-compress");
      }
      std::string_view text = all.substr(at + entry.header_bytes, entry.bytes);
      texts.push_back(text.substr(0, text.find('\0')));
    }
    at += entry.header_bytes + entry.bytes;
  }
  return texts;
}

absl::StatusOr<std::string_view> ChoosePtx(const std::vector<std::string_view>& texts,
                                           std::string_view architecture) {
  const Target device = Parse(architecture);
  std::string_view best;
  Target of_best;
  std::string known;
  for (const std::string_view text : texts) {
    const std::string_view name = TargetOf(text);
    const Target target = Parse(name);
    StrAppend(&known, known.empty() ? "" : ", ", name);
    if (!Runs(target, device)) continue;
    const bool better = target.number > of_best.number ||
                        (target.number == of_best.number && target.suffix != '\0');
    if (best.empty() || better) best = text, of_best = target;
  }
  if (best.empty()) {
    return absl::NotFoundError(ToAbsl(
        StrCat("no PTX for ", architecture, ", only for: ", known.empty() ? "none" : known)));
  }
  return best;
}

}  // namespace trireme::gpusim
