// How the library fails: inside, an exception that carries a status and a sentence; at the C boundary, a status and the
// thread's last message. Nothing else crosses the boundary.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "sieve/attention.h"

namespace sieve {

class Failure : public std::runtime_error {
 public:
  Failure(sieve_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  sieve_status status() const { return status_; }

 private:
  sieve_status status_;
};

// Text in printf style; messages are built only when something failed.
[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...);

// Stores the thread's last message, without ever throwing.
void set_last_message(const char *function, const char *message) noexcept;

// Runs the body of an exported function.
template <typename Body>
int32_t guarded(const char *function, Body &&body) noexcept {
  try {
    body();
    return SIEVE_STATUS_OK;
  } catch (const Failure &failure) {
    set_last_message(function, failure.what());
    return failure.status();
  } catch (const std::bad_alloc &) {
    set_last_message(function, "host memory is exhausted");
    return SIEVE_STATUS_OUT_OF_MEMORY;
  } catch (const std::exception &error) {
    set_last_message(function, error.what());
    return SIEVE_STATUS_INTERNAL_ERROR;
  } catch (...) {
    set_last_message(function, "an exception of an unknown type");
    return SIEVE_STATUS_INTERNAL_ERROR;
  }
}

}  // namespace sieve
