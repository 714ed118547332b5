#include "server/ranks/group_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace trireme {
namespace {

using testing::HasSubstr;

absl::Status Use(const std::map<std::string, std::string>& variables, RankGroupOptions* options) {
  return UseGroupEnvironment(
      [&](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
      },
      options);
}

TEST(GroupEnvironmentTest, WithoutALauncherTheProcessIsAlone) {
  RankGroupOptions options;
  ASSERT_TRUE(Use({}, &options).ok());
  ASSERT_TRUE(CheckRankGroup(2, &options).ok());
  EXPECT_TRUE(options.alone());
  EXPECT_FALSE(options.follows());
}

TEST(GroupEnvironmentTest, LeaderWorkerSet) {
  RankGroupOptions options;
  ASSERT_TRUE(Use({{"LWS_LEADER_ADDRESS", "m-0.m.default"},
                   {"LWS_GROUP_SIZE", "4"},
                   {"LWS_WORKER_INDEX", "3"}},
                  &options)
                  .ok());
  EXPECT_EQ(options.num_nodes, 4);
  EXPECT_EQ(options.node_rank, 3);
  EXPECT_EQ(options.leader, "m-0.m.default");
  EXPECT_TRUE(options.follows());
}

TEST(GroupEnvironmentTest, SlurmsStepBeatsItsJob) {
  const std::map<std::string, std::string> job = {
      {"SLURM_JOB_NUM_NODES", "3"}, {"SLURM_NODEID", "1"}, {"SLURM_JOB_NODELIST", "n[03-05]"}};
  RankGroupOptions options;
  ASSERT_TRUE(Use(job, &options).ok());
  EXPECT_EQ(options.num_nodes, 3);
  EXPECT_EQ(options.node_rank, 1);
  EXPECT_EQ(options.leader, "n03");

  auto step = job;
  step["SLURM_STEP_NUM_NODES"] = "2";
  step["SLURM_STEP_NODELIST"] = "n[04-05]";
  options = {};
  ASSERT_TRUE(Use(step, &options).ok());
  EXPECT_EQ(options.num_nodes, 2);
  EXPECT_EQ(options.leader, "n04");

  step["SLURM_STEP_NUM_NODES"] = "1";  // srun --nodes 1 inside a larger job
  options = {};
  ASSERT_TRUE(Use(step, &options).ok());
  EXPECT_TRUE(options.alone());
}

TEST(GroupEnvironmentTest, FlagsBeatTheEnvironment) {
  const std::map<std::string, std::string> lws = {
      {"LWS_LEADER_ADDRESS", "m-0"}, {"LWS_GROUP_SIZE", "4"}, {"LWS_WORKER_INDEX", "3"}};
  RankGroupOptions options;
  options.num_nodes = 1;
  ASSERT_TRUE(Use(lws, &options).ok());
  EXPECT_TRUE(options.alone());

  options = {};
  options.node_rank = 2;
  options.leader = "other:9000";
  ASSERT_TRUE(Use(lws, &options).ok());
  EXPECT_EQ(options.num_nodes, 4);
  EXPECT_EQ(options.node_rank, 2);
  EXPECT_EQ(options.leader, "other:9000");
}

TEST(GroupEnvironmentTest, AVariableThatMakesNoSenseIsNamed) {
  const std::map<std::string, std::string> lws = {
      {"LWS_LEADER_ADDRESS", "m-0"}, {"LWS_GROUP_SIZE", "4"}, {"LWS_WORKER_INDEX", "3"}};
  for (const char* name : {"LWS_GROUP_SIZE", "LWS_WORKER_INDEX"}) {
    for (const char* value : {"", "x", "-1", "3x", "99999999999"}) {
      auto variables = lws;
      variables[name] = value;
      RankGroupOptions options;
      const absl::Status status = Use(variables, &options);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name << value;
      EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    }
  }
}

TEST(GroupEnvironmentTest, TheFirstHostOfAList) {
  const std::map<std::string, std::string> lists = {{"n1", "n1"},
                                                    {"n1,n2", "n1"},
                                                    {"n[03-05,9],m1", "n03"},
                                                    {"n[7]", "n7"},
                                                    {"gpu-a[0010,12]", "gpu-a0010"},
                                                    {"n[1-2]-ib,m", "n1-ib"},
                                                    {"a.b.example", "a.b.example"}};
  for (const auto& [list, first] : lists) {
    const auto host = FirstHost(list);
    ASSERT_TRUE(host.ok()) << list;
    EXPECT_EQ(*host, first);
  }
  for (const char* bad : {"", ",n1", "[", "n[", "n[]", "n[1", "n[x-2]", "n[1;2]", "n[1-2][3-4]"}) {
    EXPECT_FALSE(FirstHost(bad).ok()) << bad;
  }
}

// ---- What must fit together

RankGroupOptions Group(int num_nodes, int node_rank, const std::string& leader) {
  RankGroupOptions options;
  options.num_nodes = num_nodes;
  options.node_rank = node_rank;
  options.leader = leader;
  return options;
}

TEST(RankGroupTest, TheLeadersAddressGetsAPort) {
  for (const auto& [leader, want] :
       std::map<std::string, std::string>{{"127.0.0.1", "127.0.0.1:8002"},
                                          {"localhost:9", "localhost:9"},
                                          {"[::1]", "[::1]:8002"},
                                          {"[::1]:77", "[::1]:77"}}) {
    RankGroupOptions options = Group(2, 1, leader);
    ASSERT_TRUE(CheckRankGroup(2, &options).ok()) << leader;
    EXPECT_EQ(options.leader, want);
  }
}

TEST(RankGroupTest, WhatDoesNotFitIsNamed) {
  struct Case {
    int num_ranks;
    RankGroupOptions options;
    const char* says;
  };
  RankGroupOptions half = Group(2, 0, "127.0.0.1");
  half.cert_file = "c.pem";
  const std::vector<Case> cases = {
      {3, Group(2, 0, "127.0.0.1"), "--tensor-parallel-size 3"},
      {1, Group(2, 0, "127.0.0.1"), "--tensor-parallel-size 1"},
      {2, Group(2, -1, "127.0.0.1"), "--node-rank"},
      {2, Group(2, 2, "127.0.0.1"), "--node-rank"},
      {2, Group(2, 0, ""), "--leader is missing"},
      {2, Group(2, 0, "127.0.0.1:x"), "--leader 127.0.0.1:x"},
      {2, Group(2, 0, "127.0.0.1:0"), "--leader"},
      {2, Group(2, 0, "127.0.0.1:65536"), "--leader"},
      {2, Group(2, 0, ":80"), "--leader"},
      {2, Group(2, 0, "[::1"), "--leader"},
      {2, Group(2, 0, "node-0:8002"), "--ranks-cert"},
      {2, Group(2, 1, "10.0.0.1"), "--ranks-cert"},
      {2, half, "go together"},
      {2, Group(0, 1, ""), "without --nnodes"},
      {2, Group(0, -1, "127.0.0.1"), "without --nnodes"},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    RankGroupOptions options = cases[i].options;
    const absl::Status status = CheckRankGroup(cases[i].num_ranks, &options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(cases[i].says)) << i;
  }
}

}  // namespace
}  // namespace trireme
