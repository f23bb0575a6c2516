# Warnings are errors, in C++ and in the host part of CUDA sources.
add_library(sieve_warnings INTERFACE)
if(MSVC)
  target_compile_options(sieve_warnings INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:/W4 /WX>)
else()
  target_compile_options(sieve_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wconversion -Wshadow -Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra -Werror=all-warnings>)
endif()
