// The few lines that a native test needs: a check that reports and counts, and the skip of a test without a GPU.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sieve/attention.h"

namespace sieve::test {

inline int failures = 0;

inline void check(bool condition, const char *expression, const char *file, int line) {
  if (condition) return;
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, expression);
  ++failures;
}

// The call fails with `status`, and its message contains every one of the texts.
template <typename... Texts>
void check_failure(int32_t actual, int32_t status, const char *file, int line, Texts... texts) {
  const std::string message = sieve_last_message();
  bool good = actual == status;
  for (const char *text : {static_cast<const char *>(texts)...}) good = good && message.find(text) != std::string::npos;
  if (good) return;
  std::fprintf(stderr, "%s:%d: status %s, message \"%s\"; expected %s with:", file, line, sieve_status_name(actual),
               message.c_str(), sieve_status_name(status));
  for (const char *text : {static_cast<const char *>(texts)...}) std::fprintf(stderr, " \"%s\"", text);
  std::fprintf(stderr, "\n");
  ++failures;
}

inline int finish() {
  if (failures == 0) return 0;
  std::fprintf(stderr, "%d checks failed\n", failures);
  return 1;
}

}  // namespace sieve::test

#define CHECK(expression) sieve::test::check((expression), #expression, __FILE__, __LINE__)
#define CHECK_FAILURE(call, status, ...) sieve::test::check_failure((call), (status), __FILE__, __LINE__, __VA_ARGS__)
