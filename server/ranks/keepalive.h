// How both ends of the control plane notice that the other machine is gone, when nothing says so.
#pragma once

#include <grpc/grpc.h>

#include <utility>

namespace trireme {

// Channel arguments: 8 s until a connection that answers no ping has ended.
inline constexpr std::pair<const char*, int> kKeepalive[] = {
    {GRPC_ARG_KEEPALIVE_TIME_MS, 3'000},
    {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000},
    {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
    {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
    // What the other end sends is no flood.
    {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000},
    {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0},
};

}  // namespace trireme
