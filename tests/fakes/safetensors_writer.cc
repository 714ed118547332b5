#include "tests/fakes/safetensors_writer.h"

#include "absl/strings/str_join.h"
#include "runtime/base/strings.h"
#include "tests/fakes/files.h"

namespace trireme::fakes {

std::string SafetensorsFile(std::string_view header_json, std::string_view data) {
  std::string out;
  AppendBytes<uint64_t>(&out, header_json.size());
  out.append(header_json);
  out.append(data);
  return out;
}

void SafetensorsWriter::AddTensor(std::string_view name, DType dtype,
                                  const std::vector<int64_t>& shape, std::string_view bytes) {
  StrAppend(&entries_, entries_.empty() ? "" : ",", "\"", name, "\":{\"dtype\":\"",
            DTypeName(dtype), "\",\"shape\":[", absl::StrJoin(shape, ","), "],\"data_offsets\":[",
            data_.size(), ",", data_.size() + bytes.size(), "]}");
  data_.append(bytes);
}

std::string SafetensorsWriter::Serialize() const {
  return SafetensorsFile(StrCat("{", entries_, "}"), data_);
}

}  // namespace trireme::fakes
