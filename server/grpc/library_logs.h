// What the libraries behind this door log goes where our own log goes, as one line of its format.
#pragma once

namespace trireme::rpc {

// For the whole process, from now on. Protobuf complains about what clients send: debug level, so
// that no client can fill the log. gRPC's errors are the node's own troubles (accept, resolver,
// TLS): warnings.
void RouteLibraryLogs();

}  // namespace trireme::rpc
