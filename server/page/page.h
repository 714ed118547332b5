// The built-in page: the files of this folder, embedded in the program by embed.cmake.
// Hand-written, without a framework; ES modules that talk to the API next to them and to nobody
// else.
#pragma once

#include <span>
#include <string_view>

namespace trireme {

struct PageFile {
  std::string_view name;  // "app.js"
  std::string_view etag;  // quoted; changes with the bytes
  std::string_view bytes;
};

std::span<const PageFile> PageFiles();

// Null when there is none of this name.
const PageFile* FindPageFile(std::string_view name);

// By the name's ending, with the charset of texts.
std::string_view PageContentType(std::string_view name);

}  // namespace trireme
