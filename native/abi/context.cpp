#include "abi/context.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "abi/failure.h"
#include "abi/runtime.h"
#include "abi/validation.h"

namespace sieve {

namespace {
// Handles that are alive. A released handle would otherwise be read after its memory was freed.
std::mutex live_mutex;
std::vector<const sieve_context *> live_contexts;
}  // namespace

void register_context(const sieve_context *context) {
  const std::lock_guard<std::mutex> lock(live_mutex);
  live_contexts.push_back(context);
}

const sieve_context &checked_context(const sieve_context *context) {
  if (context == nullptr)
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT, "context is NULL; allowed: a context of sieve_context_create");
  const std::lock_guard<std::mutex> lock(live_mutex);
  if (std::find(live_contexts.begin(), live_contexts.end(), context) == live_contexts.end())
    throw Failure(SIEVE_STATUS_INVALID_ARGUMENT,
                  format("context %p is not alive; allowed: a context of sieve_context_create that was not destroyed",
                         static_cast<const void *>(context)));
  return *context;
}

}  // namespace sieve

using sieve::checked_context;
using sieve::Failure;
using sieve::format;
using sieve::guarded;

extern "C" {

int32_t sieve_device_count(int32_t *count) {
  return guarded(__func__, [&] {
    sieve::require_pointer("count", count);
    *count = 0;
    *count = sieve::runtime::device_count();
  });
}

int32_t sieve_device_describe(int32_t device, sieve_device_info *info) {
  return guarded(__func__, [&] {
    const int count = sieve::runtime::device_count();
    sieve::require_range("device", device, 0, count - 1);
    sieve::require_exact_size("info", info, sizeof(sieve_device_info));
    sieve::runtime::describe_device(device, info);
  });
}

int32_t sieve_context_create(const sieve_context_options *options, sieve_context **context) {
  return guarded(__func__, [&] {
    const sieve_context_options o = sieve::versioned_copy("options", options);
    sieve::require_pointer("context", context);
    *context = nullptr;
    sieve::require_range("options.log_level", o.log_level, SIEVE_LOG_TRACE, SIEVE_LOG_NONE);
    sieve::require_zero("options.reserved", o.reserved);
    const int count = sieve::runtime::device_count();
    sieve::require_range("options.device", o.device, 0, count - 1);

    sieve_device_info info{};
    info.struct_size = sizeof info;
    sieve::runtime::describe_device(o.device, &info);
    auto made = std::make_unique<sieve_context>();
    made->device = o.device;
    made->capability = 10 * info.capability_major + info.capability_minor;
    made->multiprocessors = info.multiprocessors;
    made->log_callback = o.log;
    made->log_user_data = o.log_user_data;
    made->log_level = o.log_level;
    if (made->capability < 80)
      throw Failure(SIEVE_STATUS_UNSUPPORTED,
                    format("device %d (%s) has compute capability %d.%d; allowed: 8.0 and newer", o.device, info.name,
                           info.capability_major, info.capability_minor));
    sieve::runtime::initialize_device(o.device);
    sieve::register_context(made.get());
    *context = made.release();
    (*context)->log(SIEVE_LOG_INFORMATION,
                    format("CUDA device %d: %s, compute capability %d.%d, %d multiprocessors, driver for CUDA %d.%d",
                           o.device, info.name, info.capability_major, info.capability_minor, info.multiprocessors,
                           info.driver_version / 1000, info.driver_version % 1000 / 10));
  });
}

int32_t sieve_context_destroy(sieve_context *context) {
  return guarded(__func__, [&] {
    if (context == nullptr) return;
    checked_context(context);
    {
      const std::lock_guard<std::mutex> lock(sieve::live_mutex);
      std::erase(sieve::live_contexts, context);
    }
    delete context;
  });
}

}  // extern "C"
