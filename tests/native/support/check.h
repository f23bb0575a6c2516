// The few lines that a native test needs: a check that reports and counts, and the choice of cases on the command line.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

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

// What the command line chose: [--only TEXT]... [--repeats N]. Only cases run whose name contains every TEXT, so that
// slow tools (compute-sanitizer) can be run on a few of them.
struct Choice {
  std::vector<std::string> texts;
  int repeats = 0;
  int cases = 0;  // that were chosen so far
};
inline Choice choice;

inline void read_arguments(int count, char **arguments, int repeats = 1) {
  choice.repeats = repeats;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const bool only = argument == "--only", named = only || argument == "--repeats";
    const char *value = named ? (++i < count ? arguments[i] : "") : arguments[i];  // a number alone is the repeats
    if (only) choice.texts.push_back(value);
    if (!only) choice.repeats = std::atoi(value);
    if (*value != 0 && choice.repeats > 0) continue;
    std::fprintf(stderr, "usage: %s [--only TEXT]... [--repeats N]\n", arguments[0]);
    std::exit(2);
  }
}

inline bool chosen(const std::string &name) {
  for (const std::string &text : choice.texts)
    if (name.find(text) == std::string::npos) return false;
  ++choice.cases;
  return true;
}

inline int finish() {
  if (choice.cases == 0 && !choice.texts.empty()) {
    std::fprintf(stderr, "no case that can run here has \"%s\" in its name\n", choice.texts.back().c_str());
    return 1;
  }
  if (failures == 0) return 0;
  std::fprintf(stderr, "%d checks failed\n", failures);
  return 1;
}

}  // namespace sieve::test

#define CHECK(expression) sieve::test::check((expression), #expression, __FILE__, __LINE__)
#define CHECK_FAILURE(call, status, ...) sieve::test::check_failure((call), (status), __FILE__, __LINE__, __VA_ARGS__)
