// Device memory, streams and events: thin, checked entries to the runtime.
#include "abi/context.h"
#include "abi/failure.h"
#include "abi/runtime.h"
#include "abi/validation.h"

using sieve::checked_context;
using sieve::guarded;
using sieve::require_pointer;
using sieve::runtime::DeviceScope;

extern "C" {

int32_t sieve_memory_allocate(sieve_context *context, uint64_t bytes, void **memory) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (bytes == 0) throw sieve::Failure(SIEVE_STATUS_INVALID_ARGUMENT, "bytes is 0; allowed: at least 1");
    require_pointer("memory", memory);
    *memory = sieve::runtime::allocate(bytes);
  });
}

int32_t sieve_memory_free(sieve_context *context, void *memory) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (memory != nullptr) sieve::runtime::release(memory);
  });
}

int32_t sieve_memory_copy(sieve_context *context, void *target, const void *source, uint64_t bytes, int32_t kind,
                          void *stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (bytes == 0) return;
    require_pointer("target", target);
    require_pointer("source", source);
    sieve::require_range("kind", kind, SIEVE_COPY_TO_DEVICE, SIEVE_COPY_ON_DEVICE);
    sieve::runtime::copy(target, source, bytes, static_cast<sieve_copy_kind>(kind), stream);
  });
}

int32_t sieve_memory_fill(sieve_context *context, void *memory, uint8_t value, uint64_t bytes, void *stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (bytes == 0) return;
    require_pointer("memory", memory);
    sieve::runtime::fill(memory, value, bytes, stream);
  });
}

int32_t sieve_stream_create(sieve_context *context, void **stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    require_pointer("stream", stream);
    *stream = sieve::runtime::create_stream();
  });
}

int32_t sieve_stream_destroy(sieve_context *context, void *stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (stream != nullptr) sieve::runtime::destroy_stream(stream);
  });
}

int32_t sieve_stream_synchronize(sieve_context *context, void *stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    sieve::runtime::synchronize_stream(stream);
  });
}

int32_t sieve_event_create(sieve_context *context, void **event) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    require_pointer("event", event);
    *event = sieve::runtime::create_event();
  });
}

int32_t sieve_event_destroy(sieve_context *context, void *event) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    if (event != nullptr) sieve::runtime::destroy_event(event);
  });
}

int32_t sieve_event_record(sieve_context *context, void *event, void *stream) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    require_pointer("event", event);
    sieve::runtime::record_event(event, stream);
  });
}

int32_t sieve_event_elapsed(sieve_context *context, void *earlier, void *later, float *milliseconds) {
  return guarded(__func__, [&] {
    const DeviceScope scope(checked_context(context).device);
    require_pointer("earlier", earlier);
    require_pointer("later", later);
    require_pointer("milliseconds", milliseconds);
    *milliseconds = sieve::runtime::elapsed_milliseconds(earlier, later);
  });
}

}  // extern "C"
