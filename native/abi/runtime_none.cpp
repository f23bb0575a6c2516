#include "abi/failure.h"
#include "abi/runtime.h"

namespace sieve::runtime {

namespace {
[[noreturn]] void unavailable() {
  throw Failure(
      SIEVE_STATUS_UNAVAILABLE,
      "this build of the library contains no CUDA kernels (it was compiled without a CUDA compiler); install the package SieveAttention.Native.linux-x64, or rebuild where nvcc is on the PATH");
}
}  // namespace

int device_count() {
  unavailable();
}
void describe_device(int, sieve_device_info *) {
  unavailable();
}
void initialize_device(int) {
  unavailable();
}
DeviceScope::DeviceScope(int) : previous_(-1) {
  unavailable();
}
DeviceScope::~DeviceScope() {
  static_cast<void>(previous_);
}
void *allocate(uint64_t) {
  unavailable();
}
void release(void *) {
  unavailable();
}
void copy(void *, const void *, uint64_t, sieve_copy_kind, void *) {
  unavailable();
}
void fill(void *, uint8_t, uint64_t, void *) {
  unavailable();
}
void *create_stream() {
  unavailable();
}
void destroy_stream(void *) {
  unavailable();
}
void synchronize_stream(void *) {
  unavailable();
}
void *create_event() {
  unavailable();
}
void destroy_event(void *) {
  unavailable();
}
void record_event(void *, void *) {
  unavailable();
}
float elapsed_milliseconds(void *, void *) {
  unavailable();
}
void check_launch(int, const char *) {
  unavailable();
}

}  // namespace sieve::runtime
