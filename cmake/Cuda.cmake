# Finds the CUDA compiler and turns SIEVE_ARCHITECTURES into machine-code options. Sets SIEVE_WITH_CUDA.
set(SIEVE_WITH_CUDA OFF)
if(SIEVE_CUDA)
  include(CheckLanguage)
  # CMake looks at CUDACXX and the PATH; a toolkit in its usual place need not be on either.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    file(GLOB candidates /usr/local/cuda/bin /usr/local/cuda-*/bin)
    find_program(SIEVE_NVCC nvcc PATHS ${candidates})
    if(SIEVE_NVCC)
      set(CMAKE_CUDA_COMPILER ${SIEVE_NVCC})
    endif()
  endif()
  # Every option is given explicitly below: CMake's own list does not know all suffixes.
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # not known to CMake 3.25
    endif()
    set(SIEVE_WITH_CUDA ON)
  endif()
endif()

if(SIEVE_WITH_CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
    message(FATAL_ERROR "CUDA ${CMAKE_CUDA_COMPILER_VERSION} is too old; allowed: 12.4 and newer, 12.8 and newer for the preset release")
  endif()
  # Written out: FindCUDAToolkit of CMake 3.25 stops at toolkits from 13.0 on.
  find_library(SIEVE_CUDART cudart_static HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
  find_package(Threads REQUIRED)
  add_library(sieve_cuda_runtime INTERFACE)
  target_include_directories(sieve_cuda_runtime SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(sieve_cuda_runtime INTERFACE ${SIEVE_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)

  add_library(sieve_cuda_options INTERFACE)
  foreach(architecture IN LISTS SIEVE_ARCHITECTURES)
    target_compile_options(sieve_cuda_options INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode=arch=compute_${architecture},code=sm_${architecture}>")
  endforeach()
  if(SIEVE_PTX)
    list(GET SIEVE_ARCHITECTURES -1 newest)
    target_compile_options(sieve_cuda_options INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode=arch=compute_${newest},code=compute_${newest}>")
  endif()
  # A spill is a defect of a kernel: it stops the build where the tuned numbers were chosen, under this compiler and for
  # these architectures. Others allocate registers differently; a few bytes there are accepted.
  set(common "$<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>")
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0 AND CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13.1 AND
     SIEVE_ARCHITECTURES STREQUAL "80;90a")
    list(APPEND common "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas --warn-on-spills,--warning-as-error>")
  endif()
  target_compile_options(sieve_cuda_options INTERFACE ${common})

  # Kernels written for Hopper alone (wgmma) are compiled for it alone.
  set(SIEVE_WITH_SM90 OFF)
  if("90a" IN_LIST SIEVE_ARCHITECTURES)
    set(SIEVE_WITH_SM90 ON)
    add_library(sieve_cuda_sm90_options INTERFACE)
    target_compile_options(sieve_cuda_sm90_options INTERFACE
      "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-gencode=arch=compute_90a,code=sm_90a>" ${common})
  endif()
  list(JOIN SIEVE_ARCHITECTURES ", sm_" architectures)
  set(SIEVE_BUILD_DESCRIPTION "SieveAttention ${PROJECT_VERSION}, CUDA ${CMAKE_CUDA_COMPILER_VERSION}, sm_${architectures}")
  message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, sm_${architectures}")
else()
  set(SIEVE_BUILD_DESCRIPTION "SieveAttention ${PROJECT_VERSION}, no CUDA kernels")
  message(STATUS "CUDA kernels: none (no CUDA compiler, or SIEVE_CUDA is off)")
endif()
