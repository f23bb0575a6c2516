// griddepcontrol: how a kernel and the next one of its stream overlap, where the next was launched for it (PTX ISA
// 9.7.13.13, sm_90; nothing on older architectures, whose launches do not overlap).
#pragma once

namespace sieve::ptx {

// griddepcontrol.launch_dependents: once every block has come here or ended, the next kernel's blocks may start.
__device__ inline void griddepcontrol_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// griddepcontrol.wait: waits until the kernel before has ended and its writes are visible.
__device__ inline void griddepcontrol_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace sieve::ptx
