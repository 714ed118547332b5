#include "server/cli/weight_cache.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/fakes/files.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

class WeightCacheTest : public testing::Test {
 protected:
  WeightCacheTest() {
    fs::create_directories(cache_ / "models/hf/org/tiny");
    fs::create_directories(elsewhere_);
  }

  std::string FileFor(const std::string& setting, const fs::path& model) {
    auto file = PackedWeightsFile(setting, model.string(), cache_.string());
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *file : "";
  }

  const fakes::TempDirectory folder_;
  // As the file system names it: a temporary folder may be behind a link.
  const fs::path cache_ = fs::canonical(folder_.path()) / "cache";
  const fs::path elsewhere_ = fs::canonical(folder_.path()) / "elsewhere";
};

TEST_F(WeightCacheTest, OffKeepsNothing) {
  EXPECT_EQ(FileFor("off", cache_ / "models/m.gguf"), "");
  EXPECT_EQ(FileFor(elsewhere_.string(), ""), "");
}

TEST_F(WeightCacheTest, AutoKeepsThemBesideModelsOfTheCache) {
  const fs::path file = FileFor("auto", cache_ / "models/hf/org/tiny");
  EXPECT_EQ(file.parent_path(), cache_ / "models/hf/org");
  EXPECT_EQ(file.filename().string().substr(0, 5), "tiny-");
  EXPECT_EQ(file.extension(), ".trireme-packed");
  EXPECT_EQ(fs::path(FileFor("auto", cache_ / "models/m.gguf")).parent_path(), cache_ / "models");
}

TEST_F(WeightCacheTest, AutoWritesNowhereElse) {
  EXPECT_EQ(FileFor("auto", elsewhere_ / "m.gguf"), "");
  EXPECT_EQ(FileFor("auto", cache_ / "models"), "");  // the file would be beside the folder
  EXPECT_EQ(FileFor("auto", cache_ / "models/../m.gguf"), "");
  EXPECT_EQ(FileFor("auto", cache_ / "models-of-another/m.gguf"), "");
  fs::create_symlink(elsewhere_, cache_ / "models/link");
  EXPECT_EQ(FileFor("auto", cache_ / "models/link/m.gguf"), "");
}

TEST_F(WeightCacheTest, EachPathOfAModelHasAFileOfItsOwn) {
  const std::string one = FileFor(elsewhere_.string(), cache_ / "models/m.gguf");
  const std::string other = FileFor(elsewhere_.string(), cache_ / "m.gguf");
  EXPECT_EQ(fs::path(one).parent_path(), elsewhere_);
  EXPECT_NE(one, other);
  EXPECT_EQ(one, FileFor(elsewhere_.string(), cache_ / "models/x/../m.gguf"));
}

TEST_F(WeightCacheTest, AFolderThatIsNotThereIsRefused) {
  fakes::WriteFile((elsewhere_ / "file").string(), "");
  for (const std::string& setting :
       {(elsewhere_ / "missing").string(), std::string("on"), (elsewhere_ / "file").string()}) {
    const auto file = PackedWeightsFile(setting, "m.gguf", cache_.string());
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << setting;
  }
}

}  // namespace
}  // namespace trireme
