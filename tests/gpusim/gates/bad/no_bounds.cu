// Nobody has said how many threads it is launched with.
__global__ void NoBounds(float* to) { to[threadIdx.x] = 1; }
