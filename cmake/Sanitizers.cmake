# Sanitizers of host code; kernels are checked with compute-sanitizer.
add_library(sieve_sanitizers INTERFACE)
if(SIEVE_SANITIZE)
  target_compile_options(sieve_sanitizers INTERFACE -fsanitize=${SIEVE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(sieve_sanitizers INTERFACE -fsanitize=${SIEVE_SANITIZE})
endif()
