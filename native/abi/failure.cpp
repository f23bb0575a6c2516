#include "abi/failure.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace sieve {

namespace {
// A fixed buffer: storing a message must not fail, also not when memory is what ran out.
constexpr size_t kMessageCapacity = 2048;
thread_local char last_message[kMessageCapacity] = "";
}  // namespace

std::string format(const char *pattern, ...) {
  char text[kMessageCapacity];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

void set_last_message(const char *function, const char *message) noexcept {
  std::snprintf(last_message, sizeof last_message, "%s: %s", function, message);
}

}  // namespace sieve

extern "C" {

uint32_t sieve_abi_version(void) {
  return SIEVE_ABI_VERSION;
}

const char *sieve_last_message(void) {
  return sieve::last_message;
}

const char *sieve_status_name(int32_t status) {
  static constexpr const char *kNames[] = {
      "SIEVE_STATUS_OK",           "SIEVE_STATUS_INVALID_ARGUMENT", "SIEVE_STATUS_UNSUPPORTED",
      "SIEVE_STATUS_UNAVAILABLE",  "SIEVE_STATUS_OUT_OF_MEMORY",    "SIEVE_STATUS_WORKSPACE_TOO_SMALL",
      "SIEVE_STATUS_DEVICE_ERROR", "SIEVE_STATUS_INTERNAL_ERROR"};
  constexpr int32_t kCount = static_cast<int32_t>(sizeof kNames / sizeof kNames[0]);
  return status >= 0 && status < kCount ? kNames[status] : "unknown sieve_status";
}

const char *sieve_build_description(void) {
  return SIEVE_BUILD_DESCRIPTION;
}

}  // extern "C"
