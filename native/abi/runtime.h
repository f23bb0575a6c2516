// The CUDA runtime as this library uses it. runtime_cuda.cpp implements it; runtime_none.cpp stands in for it in a
// build without a CUDA compiler, where every function throws Failure(SIEVE_STATUS_UNAVAILABLE).
#pragma once

#include <cstdint>

#include "sieve/attention.h"

namespace sieve::runtime {

int device_count();  // throws UNAVAILABLE with the reason when there is none
void describe_device(int device, sieve_device_info *info);
void initialize_device(int device);

// Makes a device current for the duration of a call and restores the caller's afterwards.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope &) = delete;
  DeviceScope &operator=(const DeviceScope &) = delete;

 private:
  int previous_;
};

void *allocate(uint64_t bytes);
void release(void *memory);
void copy(void *target, const void *source, uint64_t bytes, sieve_copy_kind kind, void *stream);
void fill(void *memory, uint8_t value, uint64_t bytes, void *stream);

void *create_stream();
void destroy_stream(void *stream);
void synchronize_stream(void *stream);

void *create_event();
void destroy_event(void *event);
void record_event(void *event, void *stream);
float elapsed_milliseconds(void *earlier, void *later);

// Turns the result of a launch (a cudaError_t) into a Failure that names what was launched.
void check_launch(int error, const char *what);

}  // namespace sieve::runtime
