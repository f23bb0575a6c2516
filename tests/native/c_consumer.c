/* The header is C11, the library loads without a driver, and it says why there is no device. */
#include <stdio.h>
#include <string.h>

#include "sieve/attention.h"

static int failed(const char *what) {
  fprintf(stderr, "failed: %s (last message: %s)\n", what, sieve_last_message());
  return 1;
}

int main(void) {
  if (sieve_abi_version() != SIEVE_ABI_VERSION) return failed("abi version");
  if (strcmp(sieve_status_name(SIEVE_STATUS_OK), "SIEVE_STATUS_OK") != 0) return failed("status name");
  if (strncmp(sieve_build_description(), "SieveAttention ", 15) != 0) return failed("build description");
  printf("%s\n", sieve_build_description());

  int32_t kernels = -1;
  if (sieve_kernel_count(&kernels) != SIEVE_STATUS_OK || kernels < 0) return failed("kernel count");
  for (int32_t i = 0; i < kernels; ++i) {
    sieve_kernel_info info = {.struct_size = sizeof info};
    if (sieve_kernel_describe(i, &info) != SIEVE_STATUS_OK || info.head_dim < 1 || info.capability < 80)
      return failed("kernel description");
  }

  int32_t count = -1;
  const int32_t status = sieve_device_count(&count);
  if (status == SIEVE_STATUS_OK) {
    printf("%d kernels, %d devices\n", kernels, count);
    return count >= 1 ? 0 : failed("device count");
  }
  if (status != SIEVE_STATUS_UNAVAILABLE || count != 0 || strlen(sieve_last_message()) < 20)
    return failed("reason for no device");
  printf("%d kernels, no device: %s\n", kernels, sieve_last_message());

  sieve_context_options options = {.struct_size = sizeof options};
  sieve_context *context = (sieve_context *)1;
  if (sieve_context_create(&options, &context) != SIEVE_STATUS_UNAVAILABLE || context != NULL)
    return failed("context without a device");
  return 0;
}
