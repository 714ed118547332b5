/* A driver's libraries (NVML and CUDA in one), with the signatures of nvml.h and cuda.h. The environment
 * says what they see: FAKE_GPUS, FAKE_LINKS (of the last GPU; the others have 18), FAKE_NVML_ERROR. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int number(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text ? atoi(text) : otherwise;
}

typedef struct {
  unsigned long long total, free, used;
} nvmlMemory_t;

static int shut_down = 1;

int nvmlInit_v2(void) {
  shut_down = 0;
  return number("FAKE_NVML_ERROR", 0);
}
int nvmlShutdown(void) {
  shut_down = 1;
  return 0;
}
const char* nvmlErrorString(int code) {
  return code == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  snprintf(text, length, "550.54.15");
  return shut_down;
}
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = 12040;
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = (unsigned)number("FAKE_GPUS", 0);
  return shut_down;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = (void*)(uintptr_t)(index + 1);
  return 0;
}
int nvmlDeviceGetName(void* device, char* text, unsigned length) {
  (void)device;
  snprintf(text, length, "NVIDIA H100 80GB HBM3");
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, nvmlMemory_t* memory) {
  (void)device;
  memory->total = 80ull << 30;
  memory->free = 79ull << 30;
  memory->used = 1ull << 30;
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void* device, int* major, int* minor) {
  (void)device;
  *major = 9;
  *minor = 0;
  return 0;
}
int nvmlDeviceGetNvLinkState(void* device, unsigned link, unsigned* active) {
  const int last = (int)(uintptr_t)device == number("FAKE_GPUS", 0);
  *active = link < (unsigned)(last ? number("FAKE_LINKS", 18) : 18) ? 1 : 0;
  return 0;
}
int cuDriverGetVersion(int* version) {
  *version = 12080;
  return 0;
}
