# Builds, runs, tests and packs SieveAttention on Windows: build.sh in PowerShell, as thin as that.
#   ./build.ps1 build | run | test | pack | clean
# The native library is built where CMake and a C++ compiler are found (in a developer shell), with kernels where nvcc is.
param([Parameter(Position = 0)] [ValidateSet('build', 'run', 'test', 'pack', 'clean')] [string] $Verb = 'build')

$ErrorActionPreference = 'Stop'
Set-Location $PSScriptRoot
$Absent = @()
$Preset = ''

function Invoke-Step {
  $command, $arguments = $args
  & $command @arguments
  if ($LASTEXITCODE -ne 0) { throw "$command $arguments failed with exit code $LASTEXITCODE" }
}

function Test-Program([string] $Name) { $null -ne (Get-Command $Name -ErrorAction SilentlyContinue) }

function Invoke-Build {
  if (-not (Test-Program dotnet)) {
    Write-Error 'dotnet is missing: winget install Microsoft.DotNet.SDK.10' -ErrorAction Continue
    exit 2
  }
  if (-not (Test-Program cmake)) { $script:Absent += 'CMake is missing: winget install Kitware.CMake' }
  if (-not (Test-Program cl) -and -not (Test-Program clang++)) {
    $script:Absent += 'A C++ compiler is missing: winget install Microsoft.VisualStudio.2022.BuildTools, then use its developer shell'
  }
  if ($Absent.Count -gt 0) {
    $script:Absent += 'So the native library is not built: the CPU and reference devices work, CUDA devices do not.'
  }
  else {
    $script:Preset = if ($env:CUDACXX -or (Test-Program nvcc)) { 'release' } else { 'cpu-only' }
    Invoke-Step cmake --preset $Preset
    Invoke-Step cmake --build --preset $Preset --parallel
    Invoke-Step cmake --install "artifacts/native/$Preset" --prefix artifacts/native
  }
  Invoke-Step dotnet build SieveAttention.slnx -c Release
  Invoke-Step dotnet publish managed/SieveAttention.Cli -c Release --no-build -o artifacts/bin
  Write-Host "`nbuilt: artifacts/bin/sieve.exe"
  $Absent | ForEach-Object { Write-Host "note: $_" }
}

switch ($Verb) {
  'build' { Invoke-Build }
  'run' {
    Invoke-Build
    $case = 'tests/data/real/threshold-differential.safetensors'
    Invoke-Step artifacts/bin/sieve info
    Invoke-Step artifacts/bin/sieve verify $case
    Invoke-Step artifacts/bin/sieve map $case --out artifacts/threshold-differential.png
  }
  'test' {
    Invoke-Build
    Invoke-Step dotnet pack managed/SieveAttention -c Release --no-build -o artifacts/packages
    if ($Preset) { Invoke-Step ctest --preset $Preset --output-on-failure }
    Invoke-Step artifacts/managed/bin/SieveAttention.Tests/release/SieveAttention.Tests --coverlet --coverlet-single-hit
  }
  'pack' {
    Invoke-Build
    Invoke-Step dotnet pack managed/SieveAttention -c Release --no-build -o artifacts/packages
  }
  'clean' { if (Test-Path artifacts) { Remove-Item -Recurse -Force artifacts } }
}
