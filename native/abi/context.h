// A device prepared for use: what the C handle sieve_context points to.
#pragma once

#include <string>

#include "sieve/attention.h"

struct sieve_context {
  int32_t device = 0;
  int32_t capability = 0;  // 10 * major + minor
  int32_t multiprocessors = 0;
  sieve_log_callback log_callback = nullptr;
  void *log_user_data = nullptr;
  int32_t log_level = SIEVE_LOG_NONE;

  bool logs(sieve_log_level level) const { return log_callback != nullptr && level >= log_level; }
  void log(sieve_log_level level, const std::string &message) const {
    if (logs(level)) log_callback(log_user_data, level, message.c_str());
  }
};

namespace sieve {

// The context behind a handle; throws when it is NULL, was never made here or has been destroyed.
const sieve_context &checked_context(const sieve_context *context);

// Adds a context to the live ones. Tests of validation make contexts that no device stands behind.
void register_context(const sieve_context *context);

}  // namespace sieve
