#include "runtime/backend/packed_weights.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "kernels/cpu/gemm_layout.h"
#include "runtime/base/hash_words.h"
#include "runtime/base/huge_mapping.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strings.h"

namespace trireme {
namespace {

constexpr uint64_t kMagic = 0x314b434150495254;  // "TRIPACK1": the format's version is its end
constexpr size_t kAlignment = 64;
constexpr size_t kHashChunk = 1 << 20;  // what a thread checks at a time
constexpr size_t kWriteChunk = 4 << 20;
constexpr uint64_t kMaxMatrices = 1 << 20;

struct Header {
  uint64_t magic;
  uint32_t layout;  // kPanelLayoutVersion
  uint32_t entry_bytes;
  uint64_t source;
  uint64_t file_bytes;
  uint64_t num_entries;
  uint64_t checksum;  // of the header with a zero here, then of the table
};
static_assert(sizeof(Header) == 48);

template <typename T>
absl::Span<const uint8_t> BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

uint64_t HeadChecksum(Header header, absl::Span<const uint8_t> table) {
  header.checksum = 0;
  return HashWords64(table, HashWords64(BytesOf(absl::MakeConstSpan(&header, 1))));
}

uint64_t MatrixChecksum(const uint8_t* data, size_t size_bytes,
                        const PackedWeights::ParallelFor& parallel) {
  std::vector<uint64_t> hashes((size_bytes + kHashChunk - 1) / kHashChunk);
  parallel(static_cast<int>(hashes.size()), [&](int i) {
    const size_t begin = static_cast<size_t>(i) * kHashChunk;
    hashes[static_cast<size_t>(i)] =
        HashWords64({data + begin, std::min(kHashChunk, size_bytes - begin)});
  });
  return HashWords64(BytesOf(absl::MakeConstSpan(hashes)));
}

void OneAfterTheOther(int n, const std::function<void(int)>& fn) {
  for (int i = 0; i < n; ++i) fn(i);
}

uint64_t SourceChecksum(absl::Span<const MappedFile* const> sources) {
  std::vector<uint64_t> facts;
  for (const MappedFile* file : sources) {
    facts.push_back(file->bytes().size());
    facts.push_back(file->inode());
    facts.push_back(static_cast<uint64_t>(file->modified_ns()));
  }
  return HashWords64(BytesOf(absl::MakeConstSpan(facts)));
}

absl::Status WriteAll(int fd, const uint8_t* data, size_t size, const std::stop_token& stop) {
  for (size_t at = 0; at < size;) {
    if (stop.stop_requested()) return absl::CancelledError("the process ends");
    const ssize_t n = write(fd, data + at, std::min(size - at, kWriteChunk));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(ErrnoText(errno));
    at += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

struct PackedWeights::Entry {
  uint64_t key, offset, size_bytes, checksum;
};

PackedWeights::PackedWeights(std::string path, absl::Span<const MappedFile* const> sources)
    : path_(std::move(path)),
      sources_(sources.begin(), sources.end()),
      source_(SourceChecksum(sources)) {}

std::shared_ptr<PackedWeights> PackedWeights::Open(const std::string& path,
                                                   absl::Span<const MappedFile* const> sources) {
  std::shared_ptr<PackedWeights> weights(new PackedWeights(path, sources));
  if (const absl::Status status = weights->Map(); !status.ok() && !absl::IsNotFound(status)) {
    Log(LogLevel::kWarning, "packed weights are not used, and packed anew",
        {{"why", FromAbsl(status.message())}});
  }
  return weights;
}

PackedWeights::~PackedWeights() = default;  // the jthread asks to stop, and waits

absl::Status PackedWeights::Map() {
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return absl::NotFoundError("");
  if (fd < 0) return absl::PermissionDeniedError(ErrnoText(errno));
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError("it is not a regular file");
  }
  if ((info.st_uid != geteuid() && info.st_uid != 0) || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError("others than this user may write it");
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size < sizeof(Header)) return absl::DataLossError("it is cut off");
  TRIREME_ASSIGN_OR_RETURN(std::shared_ptr<const HugeMapping> mapping, HugeMapping::Of(fd, size));
  const uint8_t* const data = mapping->bytes().data();

  Header header;
  std::memcpy(&header, data, sizeof(header));
  if (header.magic != kMagic || header.layout != cpu::kPanelLayoutVersion ||
      header.entry_bytes != sizeof(Entry)) {
    return absl::FailedPreconditionError("another version of the program wrote it");
  }
  if (header.source != source_) {
    return absl::FailedPreconditionError("the model's files are others since it was written");
  }
  if (header.file_bytes != size || header.num_entries > kMaxMatrices ||
      header.num_entries > (size - sizeof(Header)) / sizeof(Entry)) {
    return absl::DataLossError("its size is not the one that it tells");
  }
  const absl::Span<const Entry> table(reinterpret_cast<const Entry*>(data + sizeof(Header)),
                                      header.num_entries);
  if (HeadChecksum(header, BytesOf(table)) != header.checksum) {
    return absl::DataLossError("its table is damaged");
  }
  const size_t begin = sizeof(Header) + table.size() * sizeof(Entry);
  for (const Entry& entry : table) {
    if (entry.offset % kAlignment != 0 || entry.offset < begin || entry.offset > size ||
        entry.size_bytes > size - entry.offset) {
      table_.clear();
      return absl::DataLossError("a matrix lies outside of it");
    }
    table_.emplace(entry.key, &entry);
  }
  mapping_ = std::move(mapping);
  return absl::OkStatus();
}

uint64_t PackedWeights::KeyOf(absl::Span<const TensorView> parts) const {
  std::vector<uint64_t> facts;
  for (const TensorView& part : parts) {
    const auto* data = static_cast<const uint8_t*>(part.data);
    const auto holds = [data](const MappedFile* file) {
      const absl::Span<const uint8_t> bytes = file->bytes();
      return std::less_equal<>()(bytes.data(), data) &&
             std::less<>()(data, bytes.data() + bytes.size());
    };
    const auto file = std::find_if(sources_.begin(), sources_.end(), holds);
    if (file == sources_.end()) return 0;
    facts.push_back(static_cast<uint64_t>(file - sources_.begin()));
    facts.push_back(static_cast<uint64_t>(data - (*file)->bytes().data()));
    facts.push_back(static_cast<uint64_t>(part.dtype));
    facts.push_back(static_cast<uint64_t>(part.rows()));
    facts.push_back(static_cast<uint64_t>(part.cols()));
  }
  return HashWords64(BytesOf(absl::MakeConstSpan(facts))) | 1;
}

std::shared_ptr<uint8_t> PackedWeights::Find(absl::Span<const TensorView> parts, size_t size_bytes,
                                             const ParallelFor& parallel) {
  const uint64_t key = mapping_ == nullptr ? 0 : KeyOf(parts);
  const auto found = table_.find(key);
  if (key == 0 || found == table_.end() || found->second->size_bytes != size_bytes) return nullptr;
  const Entry& entry = *found->second;
  const uint8_t* const data = mapping_->bytes().data() + entry.offset;
  if (MatrixChecksum(data, size_bytes, parallel) != entry.checksum) {
    Log(LogLevel::kWarning, "a packed matrix is damaged, and packed anew");
    return nullptr;
  }
  // Nobody writes to prepared weights, mapped or not.
  std::shared_ptr<uint8_t> packed(mapping_, const_cast<uint8_t*>(data));
  matrices_.push_back({key, packed, size_bytes});
  ++num_found_;
  mapped_bytes_ += static_cast<int64_t>(size_bytes);
  return packed;
}

void PackedWeights::Add(absl::Span<const TensorView> parts, std::shared_ptr<uint8_t> packed,
                        size_t size_bytes) {
  const uint64_t key = KeyOf(parts);
  if (key == 0) return;
  matrices_.push_back({key, std::move(packed), size_bytes});
  ++num_added_;
}

void PackedWeights::StartWriting() {
  if (num_added_ == 0) {
    matrices_.clear();
    return;
  }
  writer_ = std::jthread([this](const std::stop_token& stop) {
    const absl::Status written = Write(stop);
    if (written.ok()) {
      Log(LogLevel::kInfo, "packed weights are kept for the next start");
    } else if (!absl::IsCancelled(written)) {
      Log(LogLevel::kWarning, "packed weights could not be written",
          {{"why", FromAbsl(written.message())}});
    }
  });
}

absl::Status PackedWeights::Write(const std::stop_token& stop) const {
  if (num_added_ == 0) return absl::OkStatus();
  const std::string temporary = path_ + ".new";
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
  const absl::Cleanup closer = [fd] { close(fd); };
  // Another process that writes holds the lock; when it has renamed the file, the name is gone or
  // another file's.
  struct stat mine = {}, named = {};
  if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &mine) != 0 ||
      lstat(temporary.c_str(), &named) != 0 || mine.st_ino != named.st_ino) {
    return absl::CancelledError("another process writes it");
  }
  absl::Cleanup remover = [&temporary] { unlink(temporary.c_str()); };
  TRIREME_RETURN_IF_ERROR(WriteFile(fd, stop));
  // A file that a crash leaves torn has wrong checksums: nothing waits for the disk's own cache.
  TRIREME_RETURN_IF_ERROR(CacheByHugePages(fd, stop));
  if (rename(temporary.c_str(), path_.c_str()) != 0) {
    return absl::UnavailableError(ErrnoText(errno));
  }
  std::move(remover).Cancel();
  return absl::OkStatus();
}

absl::Status PackedWeights::WriteFile(int fd, const std::stop_token& stop) const {
  std::vector<Entry> table;
  size_t end = Aligned(sizeof(Header) + matrices_.size() * sizeof(Entry));
  for (const Matrix& matrix : matrices_) {
    if (stop.stop_requested()) return absl::CancelledError("the process ends");
    table.push_back({matrix.key, end, matrix.size_bytes,
                     MatrixChecksum(matrix.data.get(), matrix.size_bytes, OneAfterTheOther)});
    end += Aligned(matrix.size_bytes);
  }
  Header header = {kMagic, cpu::kPanelLayoutVersion, sizeof(Entry), source_, end, table.size(), 0};
  header.checksum = HeadChecksum(header, BytesOf(absl::MakeConstSpan(table)));
  // A full disk is found here, not after most of it was written.
  if (ftruncate(fd, 0) != 0) return absl::UnavailableError(ErrnoText(errno));
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(end)); error != 0) {
    return absl::ResourceExhaustedError(ErrnoText(error));
  }
  const auto put = [&](absl::Span<const uint8_t> bytes) {
    return WriteAll(fd, bytes.data(), bytes.size(), stop);
  };
  TRIREME_RETURN_IF_ERROR(put(BytesOf(absl::MakeConstSpan(&header, 1))));
  TRIREME_RETURN_IF_ERROR(put(BytesOf(absl::MakeConstSpan(table))));
  for (size_t i = 0; i < table.size(); ++i) {
    if (lseek(fd, static_cast<off_t>(table[i].offset), SEEK_SET) < 0) {
      return absl::UnavailableError(ErrnoText(errno));
    }
    TRIREME_RETURN_IF_ERROR(put({matrices_[i].data.get(), matrices_[i].size_bytes}));
  }
  return absl::OkStatus();
}

}  // namespace trireme
