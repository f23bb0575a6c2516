#!/usr/bin/env bash
# Builds, runs, tests and packs SieveAttention. Thin on purpose: each step is a CMake preset or a dotnet command that
# can be typed by hand as well; what this file adds is the choice of the preset and the names of missing tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly library=artifacts/native/lib/libsieve_attention.so
readonly packages=artifacts/packages
readonly results=artifacts/test-results
readonly example=tests/data/real/threshold-differential.safetensors

preset=""          # CMake preset of this machine; empty = the native library cannot be built here
generator=()       # arguments for cmake where Ninja, which the presets name, is not there
absent=()          # one sentence for each thing that this machine lacks
passed=0 failed=0 skipped=0

usage() {
  cat <<'TEXT'
usage: ./build.sh VERB

  build   build everything; the tool is artifacts/bin/sieve
  run     build, then check and draw a real attention problem
  test    build and pack, then run all tests and print the line coverage
  pack    build, then make the NuGet packages in artifacts/packages
  clean   remove artifacts/

Needs the .NET 10 SDK. With CMake and a C++ compiler the native library is built too, with a CUDA compiler
(CUDACXX, PATH or /usr/local/cuda*) the GPU kernels inside it. Without them the CPU path is built and runs.
SIEVE_PRESET=NAME takes another preset of CMakePresets.json, for example dev or cpu-only.
TEXT
}

# The command that installs something: install APT_NAMES DNF_NAMES BREW_NAMES
install() {
  if command -v apt-get >/dev/null; then echo "sudo apt-get install $1"
  elif command -v dnf >/dev/null; then echo "sudo dnf install $2"
  elif command -v brew >/dev/null; then echo "brew install $3"
  else echo "install $1 with the package manager of this system"; fi
}

require_dotnet() {
  if ! command -v dotnet >/dev/null; then
    echo "build.sh: dotnet is missing: the .NET 10 SDK builds everything here." >&2
  elif ! dotnet --version >/dev/null 2>&1; then
    echo "build.sh: dotnet has no SDK that fits global.json (10.0.100 or newer); found: $(dotnet --list-sdks | tr '\n' ' ')" >&2
  else
    # Programs started by their own name look for .NET in its usual folders only.
    if [ -z "${DOTNET_ROOT:-}" ]; then
      DOTNET_ROOT=$(dotnet --list-runtimes | sed -n 's|^Microsoft\.NETCore\.App .*\[\(.*\)/shared/.*|\1|p' | tail -n 1)
      export DOTNET_ROOT
    fi
    return
  fi
  echo "  $(install dotnet-sdk-10.0 dotnet-sdk-10.0 dotnet)" >&2
  echo "  or, where the system has no such package: https://dotnet.microsoft.com/download/dotnet/10.0" >&2
  exit 2
}

find_nvcc() {
  local candidate newest=""
  for candidate in "${CUDACXX:-}" "$(command -v nvcc || true)"; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null; then echo "$candidate"; return; fi
  done
  for candidate in /usr/local/cuda-*/bin/nvcc /usr/local/cuda/bin/nvcc; do
    if [ -x "$candidate" ]; then newest=$candidate; fi
  done
  echo "$newest"
}

# Sets preset, generator, CUDACXX and absent.
choose_preset() {
  local nvcc
  if ! command -v cmake >/dev/null; then
    absent+=("CMake is missing: $(install cmake cmake cmake)")
  fi
  if ! command -v "${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    absent+=("A C++ compiler is missing: $(install g++ gcc-c++ gcc)")
  fi
  if ! command -v ninja >/dev/null; then
    generator=(-G "Unix Makefiles")
    command -v make >/dev/null || absent+=("Ninja (or make) is missing: $(install ninja-build ninja-build ninja)")
  fi
  if [ ${#absent[@]} -gt 0 ]; then
    absent+=("So the native library is not built: the CPU and reference devices work, CUDA devices do not.")
    if [ -f "$library" ]; then
      absent+=("An earlier build left $library; it stays in use.")
    fi
    return
  fi
  nvcc=$(find_nvcc)
  if [ -n "$nvcc" ]; then
    export CUDACXX=$nvcc
    preset=${SIEVE_PRESET:-release}
  else
    preset=${SIEVE_PRESET:-cpu-only}
    absent+=("No CUDA compiler (nvcc) in CUDACXX, PATH or /usr/local/cuda*: the native library holds no GPU kernels.")
  fi
}

print_notes() {
  if [ ${#absent[@]} -gt 0 ]; then printf 'note: %s\n' "${absent[@]}"; fi
}

build() {
  require_dotnet
  choose_preset
  if [ -n "$preset" ]; then
    cmake --preset "$preset" "${generator[@]}"
    cmake --build --preset "$preset" --parallel "$(getconf _NPROCESSORS_ONLN)"
    cmake --install "artifacts/native/$preset" --prefix artifacts/native
  fi
  dotnet build SieveAttention.slnx -c Release
  dotnet publish managed/SieveAttention.Cli -c Release --no-build -o artifacts/bin
  echo
  echo "built: artifacts/bin/sieve"
  print_notes
}

run() {
  local picture=artifacts/threshold-differential.png
  build
  echo
  artifacts/bin/sieve info
  echo
  artifacts/bin/sieve verify "$example"
  echo
  artifacts/bin/sieve map "$example" --out "$picture"
}

# Packs what this machine has built.
make_packages() {
  rm -rf "$packages"
  dotnet pack managed/SieveAttention -c Release --no-build -o "$packages"
  if [ -f "$library" ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
    dotnet pack managed/SieveAttention.Native.linux-x64 -c Release --no-build -o "$packages"
  fi
}

pack() {
  build
  make_packages
  echo
  ls -1 "$packages"
  print_notes
  if ! ls "$packages"/SieveAttention.Native.linux-x64.*.nupkg >/dev/null 2>&1; then
    echo "build.sh: SieveAttention.Native.linux-x64 was not packed: its library was not built on this machine." >&2
    exit 2
  fi
}

# Adds one runner's outcome; a runner that fails without a failed test (a crash) counts as one failure.
count() { # STATUS PASSED FAILED SKIPPED
  passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
  if [ "$1" -ne 0 ] && [ "$3" -eq 0 ]; then failed=$((failed + 1)); fi
}

# The number in front of which PATTERN stands in FILE, 0 where there is none.
number() { # PATTERN FILE
  local value
  value=$(sed -nE "s/.*$1([0-9]+).*/\1/p" "$2" 2>/dev/null | tail -n 1)
  echo "${value:-0}"
}

test_native() {
  local file=$PWD/$results/native.xml status=0 bad not_run
  ctest --preset "$preset" --output-on-failure --no-tests=error --output-junit "$file" || status=$?
  bad=$(number '^\s+failures="' "$file")
  not_run=$(($(number '^\s+skipped="' "$file") + $(number '^\s+disabled="' "$file")))
  count "$status" $(($(number '^\s+tests="' "$file") - bad - not_run)) "$bad" "$not_run"
}

test_managed() {
  local file=$results/managed.txt status=0
  artifacts/managed/bin/SieveAttention.Tests/release/SieveAttention.Tests --progress off --ansi off \
    --results-directory "$PWD/$results" --coverlet --coverlet-single-hit --coverlet-include '[SieveAttention]*' |
    tee "$file" || status=$?
  count "$status" "$(number '^  succeeded: ' "$file")" "$(number '^  failed: ' "$file")" "$(number '^  skipped: ' "$file")"
}

run_tests() {
  build
  make_packages
  rm -rf "$results"
  mkdir -p "$results"
  if [ -n "$preset" ]; then test_native; fi
  test_managed
  echo
  print_notes
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}

if [ $# -gt 1 ]; then
  echo "build.sh: one verb at a time; received: $*" >&2
  exit 2
fi
case "${1:---help}" in
  build) build ;;
  run) run ;;
  test) run_tests ;;
  pack) pack ;;
  clean) rm -rf artifacts ;;
  -h | --help | help) usage ;;
  *)
    echo "build.sh: unknown verb '$1'; known are build, run, test, pack, clean" >&2
    exit 2
    ;;
esac
