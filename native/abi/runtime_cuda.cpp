#include <cuda_runtime_api.h>

#include <cstring>

#include "abi/failure.h"
#include "abi/runtime.h"

namespace sieve::runtime {

namespace {

[[noreturn]] void fail(cudaError_t error, const char *what) {
  // A sticky error would otherwise be reported again by the next, innocent call.
  cudaGetLastError();
  const sieve_status status =
      error == cudaErrorMemoryAllocation                                                 ? SIEVE_STATUS_OUT_OF_MEMORY
      : error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver               ? SIEVE_STATUS_UNAVAILABLE
      : error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidKernelImage ? SIEVE_STATUS_UNSUPPORTED
                                                                                         : SIEVE_STATUS_DEVICE_ERROR;
  throw Failure(status, format("%s failed: %s (%s)", what, cudaGetErrorName(error), cudaGetErrorString(error)));
}

void check(cudaError_t error, const char *what) {
  if (error != cudaSuccess) fail(error, what);
}

// Destroying after the driver began to shut down, or after its context is gone, has nothing left to do.
void check_release(cudaError_t error, const char *what) {
  if (error == cudaErrorCudartUnloading || error == cudaErrorContextIsDestroyed) return;
  check(error, what);
}

cudaStream_t as_stream(void *stream) {
  return static_cast<cudaStream_t>(stream);
}
cudaEvent_t as_event(void *event) {
  return static_cast<cudaEvent_t>(event);
}

}  // namespace

int device_count() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    throw Failure(
        SIEVE_STATUS_UNAVAILABLE,
        "no NVIDIA driver was found (libcuda.so.1 could not be loaded); install driver 580 or newer to use the GPU");
  }
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    throw Failure(SIEVE_STATUS_UNAVAILABLE,
                  format("the NVIDIA driver supports CUDA %d.%d, this build needs %d.%d; install driver 580 or newer",
                         driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10));
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    cudaGetLastError();
    throw Failure(SIEVE_STATUS_UNAVAILABLE,
                  "the NVIDIA driver is present, but it reports no CUDA device (is CUDA_VISIBLE_DEVICES set?)");
  }
  check(error, "cudaGetDeviceCount");
  return count;
}

void describe_device(int device, sieve_device_info *info) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  info->capability_major = properties.major;
  info->capability_minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  info->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  info->cache_bytes = properties.l2CacheSize;
  info->shared_memory_bytes = static_cast<int32_t>(properties.sharedMemPerBlockOptin);
  info->driver_version = driver;
  std::strncpy(info->name, properties.name, sizeof info->name - 1);
  info->name[sizeof info->name - 1] = '\0';
}

void initialize_device(int device) {
  check(cudaInitDevice(device, 0, 0), "cudaInitDevice");
}

DeviceScope::DeviceScope(int device) : previous_(-1) {
  const cudaError_t error = cudaGetDevice(&previous_);
  if (error == cudaErrorCudartUnloading) {
    previous_ = -1;  // the process ends: what follows can only be a release, which then has nothing to do
    return;
  }
  check(error, "cudaGetDevice");
  if (previous_ == device)
    previous_ = -1;
  else
    check(cudaSetDevice(device), "cudaSetDevice");
}

DeviceScope::~DeviceScope() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

void *allocate(uint64_t bytes) {
  void *memory = nullptr;
  check(cudaMalloc(&memory, bytes),
        format("allocating %llu bytes of device memory", static_cast<unsigned long long>(bytes)).c_str());
  return memory;
}

void release(void *memory) {
  check_release(cudaFree(memory), "cudaFree");
}

void copy(void *target, const void *source, uint64_t bytes, sieve_copy_kind kind, void *stream) {
  const cudaMemcpyKind direction = kind == SIEVE_COPY_TO_DEVICE ? cudaMemcpyHostToDevice
                                   : kind == SIEVE_COPY_TO_HOST ? cudaMemcpyDeviceToHost
                                                                : cudaMemcpyDeviceToDevice;
  check(cudaMemcpyAsync(target, source, bytes, direction, as_stream(stream)), "cudaMemcpyAsync");
}

void fill(void *memory, uint8_t value, uint64_t bytes, void *stream) {
  check(cudaMemsetAsync(memory, value, bytes, as_stream(stream)), "cudaMemsetAsync");
}

void *create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

void destroy_stream(void *stream) {
  check_release(cudaStreamDestroy(as_stream(stream)), "cudaStreamDestroy");
}

void synchronize_stream(void *stream) {
  check(cudaStreamSynchronize(as_stream(stream)), "cudaStreamSynchronize");
}

void *create_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return event;
}

void destroy_event(void *event) {
  check_release(cudaEventDestroy(as_event(event)), "cudaEventDestroy");
}

void record_event(void *event, void *stream) {
  check(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
}

float elapsed_milliseconds(void *earlier, void *later) {
  check(cudaEventSynchronize(as_event(later)), "cudaEventSynchronize");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, as_event(earlier), as_event(later)), "cudaEventElapsedTime");
  return milliseconds;
}

void check_launch(int error, const char *what) {
  check(static_cast<cudaError_t>(error), what);
}

}  // namespace sieve::runtime
