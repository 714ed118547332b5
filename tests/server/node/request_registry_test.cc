#include "server/node/request_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Door = RequestInfo::Door;
using State = RequestInfo::State;
using Ticket = RequestRegistry::Ticket;

RequestInfo Named(std::string id, std::string tenant = "team", Door door = Door::kHttp) {
  return {.id = std::move(id), .tenant = std::move(tenant), .door = door};
}
std::vector<std::string> Ids(const RequestRegistry& registry, std::string_view tenant) {
  std::vector<std::string> ids;
  for (const RequestInfo& info : registry.List(tenant).requests) ids.push_back(info.id);
  return ids;
}

TEST(RequestRegistryTest, ARequestIsListedFromEnterToTheEndOfItsTicket) {
  RequestRegistry registry;
  {
    const Ticket first = registry.Enter(Named("z"), [] {});
    Ticket second = registry.Enter(Named("a", "team", Door::kGrpc), [] {});
    EXPECT_THAT(Ids(registry, "team"), ElementsAre("z", "a")) << "oldest first";
    const Ticket moved = std::move(second);
    EXPECT_THAT(Ids(registry, "team"), ElementsAre("z", "a"));
    EXPECT_EQ(registry.List("team").requests[1].door, Door::kGrpc);
  }
  EXPECT_THAT(Ids(registry, "team"), IsEmpty());
}

TEST(RequestRegistryTest, ProgressIsSeen) {
  RequestRegistry registry;
  Ticket ticket = registry.Enter(Named("a"), [] {});
  EXPECT_EQ(registry.List("team").requests[0].state, State::kPreparing);
  ticket.SetSubmitted("demo", /*stream=*/true, 7);
  ticket.SetGenerated(0);
  EXPECT_EQ(registry.List("team").requests[0].state, State::kWaiting);
  ticket.SetGenerated(3);
  const RequestInfo info = registry.List("team").requests[0];
  EXPECT_EQ(info.state, State::kGenerating);
  EXPECT_EQ(info.model, "demo");
  EXPECT_TRUE(info.stream);
  EXPECT_EQ(info.prompt_tokens, 7);
  EXPECT_EQ(info.generated_tokens, 3);
}

TEST(RequestRegistryTest, ATenantNeitherSeesNorCancelsWhatIsAnothers) {
  RequestRegistry registry;
  int cancelled = 0;
  const Ticket ours = registry.Enter(Named("same", "a"), [&] { cancelled += 1; });
  const Ticket theirs = registry.Enter(Named("same", "b"), [&] { cancelled += 10; });
  const Ticket theirs_too = registry.Enter(Named("other", "b"), [&] { cancelled += 100; });
  const Ticket anonymous = registry.Enter(Named("same", ""), [&] { cancelled += 1000; });
  EXPECT_THAT(Ids(registry, "a"), ElementsAre("same"));
  EXPECT_THAT(Ids(registry, ""), ElementsAre("same"));
  EXPECT_THAT(Ids(registry, "nobody"), IsEmpty());
  EXPECT_FALSE(registry.Cancel("a", "other"));
  EXPECT_FALSE(registry.Cancel("nobody", "same"));
  EXPECT_EQ(cancelled, 0);
  EXPECT_TRUE(registry.Cancel("a", "same"));
  EXPECT_EQ(cancelled, 1);
}

TEST(RequestRegistryTest, AnIdThatIsUsedTwiceIsCancelledTwiceAndOnceEach) {
  RequestRegistry registry;
  int cancelled = 0;
  const Ticket first = registry.Enter(Named("a"), [&] { ++cancelled; });
  const Ticket second = registry.Enter(Named("a"), [&] { ++cancelled; });
  EXPECT_TRUE(registry.Cancel("team", "a"));
  EXPECT_TRUE(registry.Cancel("team", "a")) << "it is still on its way out";
  EXPECT_EQ(cancelled, 2);
}

TEST(RequestRegistryTest, WhatDoesNotFitIsServedUnlisted) {
  RequestRegistry registry;
  std::vector<Ticket> tickets;
  for (size_t i = 0; i <= RequestRegistry::kMaxEntries; ++i) {
    tickets.push_back(registry.Enter(Named(std::to_string(i)), [] {}));
  }
  tickets.back().SetSubmitted("demo", true, 1);
  tickets.back().SetGenerated(1);
  const RequestRegistry::Listing listing = registry.List("team");
  EXPECT_EQ(listing.total, RequestRegistry::kMaxEntries);
  EXPECT_EQ(listing.requests.size(), RequestRegistry::kMaxListed);
  tickets.clear();
  EXPECT_EQ(registry.List("team").total, 0u);
}

TEST(RequestRegistryTest, OnceATicketIsGoneItsCancelDoesNotRun) {
  RequestRegistry registry;
  std::atomic<bool> stop = false;
  std::thread canceller([&] {
    while (!stop) {
      registry.Cancel("team", "a");
      registry.List("team");
    }
  });
  for (int i = 0; i < 2000; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    Ticket ticket = registry.Enter(Named("a"), [target = alive.get()] { ++*target; });
    ticket.SetSubmitted("demo", true, 1);
    ticket.SetGenerated(1);
    ticket.Leave();
    EXPECT_LE(*alive, 1);
    alive.reset();  // a sanitizer sees whoever comes late
  }
  stop = true;
  canceller.join();
}

}  // namespace
}  // namespace trireme
